"""The rule on restarts; a command, or the person at the terminal, restarts a participant."""

import subprocess
import sys
import time
from collections.abc import Callable

from shop.conformance.trial import Trial, demand, violated
from shop.conformance.votes import rest_on_repeated_votes, with_another_body
from shop.conformance.wire import NotTried, Wire
from two_phase.messages import Prepare

_HINT = "(unless a coordinator has decided it meanwhile)"
#: What the command says must not get into the report.
_STDERR = 2
COMMAND_SECONDS = 60
ANSWER_SECONDS = 60


def restart_keeps_promises(trial: Trial) -> None:
    """What was prepared before a restart can be committed and can be aborted after it, and its vote is the same."""
    rest_on_repeated_votes(trial)
    kept, committed, aborted, earlier = (
        trial.new(),
        trial.prepared(),
        trial.prepared(),
        trial.prepared(),
    )
    vote = trial.vote(kept)
    if not _is_known(trial, kept):
        raise NotTried("it rests on prepare_with_another_body")
    trial.round(commits=[earlier.transaction_id])

    trial.restart()

    # A forgetful participant takes a repeated prepare for a new one, and says yes: the other body
    # is asked about first.
    demand(_is_known(trial, kept), "a prepared branch was forgotten")
    demand(trial.vote(kept) == vote, f"the vote is not the one that was given before {_HINT}")
    demand(
        trial.vote(earlier).prepared, "what was committed before is neither committed nor prepared"
    )
    ballot = trial.round(commits=[committed.transaction_id], aborts=[aborted.transaction_id])
    acknowledged = {committed.transaction_id, aborted.transaction_id}.issubset(ballot.acknowledged)
    demand(
        acknowledged and not ballot.violations,
        f"a decision on a prepared branch was not acknowledged {_HINT}",
    )
    # A crash may undo a commit that was not flushed, and never its prepare.
    trial.round(commits=[earlier.transaction_id])


def _is_known(trial: Trial, prepare: Prepare) -> bool:
    ballot = trial.round(prepares=[with_another_body(prepare)])
    return violated(ballot, prepare.transaction_id) and not ballot.votes


def restarter(command: str | None, wire: Wire) -> Callable[[], None] | None:
    """Return how to restart the participant, or None without a command and a person."""
    if command is None and not sys.stdin.isatty():
        return None

    def restart() -> None:
        if command is None:
            _ask()
        else:
            _run(command)
        _wait_until_answering(wire)

    return restart


def _ask() -> None:
    # To standard error, as whatever is not the report.
    print(  # noqa: T201
        "Restart the participant now (kill -9 shows the most), then press Enter. ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if not sys.stdin.readline():
        raise NotTried("nobody has restarted it")


def _run(command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S602 - the user's own command, in the user's own shell
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            check=False,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotTried(
            f"the restart command did not end within {COMMAND_SECONDS} seconds"
        ) from None
    if done.returncode:
        raise NotTried(f"the restart command failed with {done.returncode}")


def _wait_until_answering(wire: Wire) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not wire.is_answering():
        if time.monotonic() > deadline:
            raise NotTried(f"the participant did not answer again within {ANSWER_SECONDS} seconds")
        time.sleep(0.1)
