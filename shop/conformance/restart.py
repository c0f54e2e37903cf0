"""The rule on restarts, and how a participant is restarted: by a command, or by the person at the terminal."""

import subprocess
import sys
import time
from collections.abc import Callable

from shop.conformance.trial import Trial, demand, violated
from shop.conformance.votes import with_another_body
from shop.conformance.wire import NotTried, Wire

COMMAND_SECONDS = 60
ANSWER_SECONDS = 60


def restart_keeps_promises(trial: Trial) -> None:
    """What was prepared before a restart can be committed and can be aborted after it, and its vote is the same."""
    kept, committed, aborted, before = trial.new(), trial.prepared(), trial.prepared(), trial.prepared()
    vote = trial.vote(kept)
    trial.round(commits=[before.transaction_id])

    trial.restart()

    # A forgetful participant takes a repeated prepare for a new one, and says yes: the other body is asked about first.
    ballot = trial.round(prepares=[with_another_body(kept)])
    demand(violated(ballot, kept.transaction_id) and not ballot.votes, "a prepared branch was forgotten")
    hint = "unless a coordinator has decided it meanwhile"
    demand(trial.vote(kept) == vote, f"the vote is not the one that was given before ({hint})")
    ballot = trial.round(commits=[before.transaction_id, committed.transaction_id], aborts=[aborted.transaction_id])
    acknowledged = {before.transaction_id, committed.transaction_id, aborted.transaction_id}.issubset(ballot.acknowledged)
    demand(acknowledged and not ballot.violations, f"a decision on a prepared branch was not acknowledged ({hint})")


def restarter(command: str | None, wire: Wire) -> Callable[[], None] | None:
    """Return how to restart the participant and wait for it; None if there is neither a command nor a person."""
    if command is None and not sys.stdin.isatty():
        return None

    def restart() -> None:
        if command is None:
            input("Restart the participant now (kill -9 shows the most), then press Enter. ")
        else:
            _run(command)
        _wait_until_answering(wire)

    return restart


def _run(command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S602 - the user's own command, in the user's own shell
            command, shell=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NotTried(f"the restart command did not end within {COMMAND_SECONDS} seconds") from None
    if done.returncode:
        raise NotTried(f"the restart command failed with {done.returncode}")


def _wait_until_answering(wire: Wire) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not wire.is_answering():
        if time.monotonic() > deadline:
            raise NotTried(f"the participant did not answer again within {ANSWER_SECONDS} seconds")
        time.sleep(0.1)
