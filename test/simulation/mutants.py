"""Hand-made bugs: each replaces a few words of the source before it is imported, and must be found by the laws.

A patch whose words are no longer there is an error, so that a mutant never quietly becomes the
program itself.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

SEEDS_MAX = 5000


@dataclass(frozen=True)
class Mutant:
    """A bug: in ``module``, ``before`` is replaced by ``after``."""

    module: str
    before: str
    after: str
    #: Found so quickly that every test run can afford it.
    quick: bool = True
    #: A seed that found it once, where `make test` begins to look.
    seed: int = 0


MUTANTS = {
    "no tombstone": Mutant(
        "two_phase.participant.participant", "step.added.append(step.branches[each])", "pass"
    ),
    "the loser of the decision believes itself": Mutant(
        "two_phase.coordinator.sql_decision_log",
        "found = self._found(connection, _ids(missing))",
        'found = {row["transaction_id"]: Decision(row["status"]) for row in missing}',
    ),
    "a decision overwrites the one found": Mutant(
        "simulation.log",
        'if transaction.get("orders", row["transaction_id"]) is not None:',
        "if False:",
    ),
    "a restored log cancels what it has forgotten": Mutant(
        "simulation.log",
        'row["generation"] == generation and ',
        "",
        seed=118,
    ),
    "the vote leaves before its row is durable": Mutant(
        "two_phase.participant.participant",
        "begin(forced=bool(message.prepares), ",
        "begin(forced=False, ",
    ),
    "a repeated vote rests on a row that is not durable": Mutant(
        "two_phase.participant.participant",
        "return step.ballot(self._count(connection, message, step.added))",
        "must_write = step.added or not message.prepares;"
        "return step.ballot(self._count(connection, message, step.added) if must_write else None)",
        quick=False,
    ),
    "outcomes answers and does not write": Mutant(
        "two_phase.coordinator.sql_decision_log",
        "decided = await self.run(lambda connection: work(connection, transactions))",
        "ids = [each.transaction_id for each in transactions]; decided = dict.fromkeys(ids, Decision.CANCELLED)"
        " | await self.run(lambda connection: self._found(connection, ids))",
    ),
    "an unknown commit is done": Mutant(
        "two_phase.participant.participant",
        '(None, "commit"): (None, Effect.VIOLATION)',
        '(None, "commit"): (None, Effect.NONE)',
    ),
    "the silent one hears of no abort": Mutant(
        "two_phase.coordinator.coordinator",
        "            participant.announce(announced)",
        "            heard = {each.transaction.transaction_id for each in verdicts if participant.name in each.votes}\n"
        "            participant.announce([each for each in announced if each[0] in heard])",
    ),
    "the decision is told before it is durable": Mutant(
        "two_phase.coordinator.coordinator",
        "asking = self._write(verdicts, generation)",
        "self._announce(batch, verdicts, {each.transaction.transaction_id: LoggedDecision(each.decision) for each in verdicts}); "
        "asking = self._write(verdicts, generation)",
    ),
    "the decision is not forced": Mutant(
        "two_phase.coordinator.sql_decision_log",
        "return await self.run(lambda connection: self._decided(connection, rows, to_json(heard).decode(), forced=forced))",
        "return await self.run(lambda connection: self._decided(connection, rows, to_json(heard).decode(), forced=False))",
    ),
    "a lost COMMIT counts as cancelled": Mutant(
        "two_phase.coordinator.coordinator",
        "self._spawn(self._learn(batch, verdicts, generation, asking))",
        "self._announce(batch, verdicts, {each.transaction.transaction_id: LoggedDecision(Decision.CANCELLED) for each in verdicts})",
    ),
    "a plain read after a lost COMMIT": Mutant(
        "two_phase.coordinator.coordinator",
        "            self._spawn(self._learn(batch, verdicts, generation, asking))",
        """
            async def plainly_read():
                from two_phase.messages import InDoubt
                ids = [each.transaction.transaction_id for each in verdicts]
                said = await self._log.peek([InDoubt(transaction_id=each, generation=1) for each in ids])
                decided = {each: Decision.CONFIRMED if each in said.confirmed else Decision.CANCELLED for each in ids}
                return {each: LoggedDecision(decision) for each, decision in decided.items()}

            self._spawn(self._learn(batch, verdicts, generation, asyncio.ensure_future(plainly_read())))""",
        seed=251,
    ),
    "commits are struck off the list when they leave": Mutant(
        "two_phase.coordinator.remote_participant",
        "self._in_flight.update(each for each, _ in waiting)",
        "[self._unacknowledged.pop(each) for each, _ in waiting]",
        seed=55,
    ),
    "an abort gives nothing back": Mutant(
        "two_phase.participant.participant",
        "self._give_back(connection, list(zip(ids, payloads, strict=True)))",
        "pass",
    ),
    "a repeated abort gives back again": Mutant(
        "two_phase.participant.participant",
        "if ids := done[Effect.GIVE_BACK]:",
        "found = [step.branches[each] for each in step.aborts]\n"
        "        if ids := [each.transaction_id for each in found if each.state is State.ABORTED"
        " and each.payload is not None and each.reason is None]:",
    ),
    "a participant guesses": Mutant(
        "two_phase.participant.recovery",
        "outcomes = await self._coordinator.outcomes(question, await self._log_seen())",
        "outcomes = Outcomes(cancelled=[each.transaction_id for each in question])",
    ),
    "confirms with a vote missing": Mutant(
        "two_phase.coordinator.verdict", "len(votes) == len(transaction.payloads) and ", ""
    ),
    "confirms what a customer was sent away from": Mutant(
        "two_phase.coordinator.ticket",
        "self.abandoned = not self.confirm_sent",
        "self.abandoned = True",
        seed=394,
    ),
    "a peek tells what is not durable": Mutant(
        "two_phase.coordinator.sql_decision_log",
        "return self._found(connection, list(recorded)) if recorded else {}",
        "return recorded",
        quick=False,
    ),
    "a decision found is told and not durable": Mutant(
        "two_phase.coordinator.sql_decision_log",
        "found = self._found(connection, _ids(missing))",
        "found = _read(connection, self.statements.peek, _ids(missing))",
        quick=False,
    ),
    "a claim is taken over without a fence": Mutant(
        "two_phase.coordinator.idempotency",
        "fenced = self._log.ask(connection, [InDoubt(transaction_id=holder, generation=generation)])",
        "fenced = {holder: Decision.CANCELLED}",
        quick=False,
    ),
    "earlier attempts are not aborted first": Mutant(
        "two_phase.coordinator.coordinator",
        "instead_of=list(transaction.instead_of)",
        "instead_of=[]",
    ),
    "a refusal with a key is told and not durable": Mutant(
        "two_phase.coordinator.sql_decision_log",
        'forced = any(row["status"] == Decision.CONFIRMED or row["idempotency_key"] for row in rows)',
        'forced = any(row["status"] == Decision.CONFIRMED for row in rows)',
    ),
    "the answer comes from the votes and not from the row": Mutant(
        "order_service.checkout",
        "key_request is not None and outcome.existed and outcome.decision is Decision.CANCELLED",
        "False",
        quick=False,
    ),
    "a restored log decides what it has forgotten": Mutant(
        "two_phase.coordinator.sql_decision_log",
        '"known": self._log_position,',
        '"known": 0,',
        quick=False,
    ),
    "what ballots say of the log is not observed": Mutant(
        "two_phase.coordinator.restore_detector",
        "self._log.observe(max((participant.history.log_position_seen for participant in self._participants), default=0))",
        "pass",
        quick=False,
    ),
    "a restored participant takes prepares": Mutant(
        "two_phase.participant.round_counter",
        "if message.prepares and counters.counter <= message.counter_heard:",
        "if False:",
        quick=False,
    ),
    "what others have heard of a participant is not believed": Mutant(
        "two_phase.coordinator.restore_detector",
        "participant.history.round_count_seen = max(participant.history.round_count_seen, heard)",
        "pass",
        quick=False,
    ),
    "a reconciliation does not commit what it has brought back": Mutant(
        "shop.operator.reconcile",
        "Round(generation=generation, commits=commits)",
        "Round(generation=generation)",
        quick=False,
    ),
    "the next attempt starts though the claim is gone": Mutant(
        "two_phase.coordinator.idempotency",
        "if not await _until(deadline, self._claims.move(request, successor)):",
        "if await _until(deadline, self._claims.move(request, successor)) is None:",
        quick=False,
    ),
}


def matches(mutant: Mutant, source: str) -> list[re.Match[str]]:
    """Return where the words of a mutant stand in ``source``, however its lines are broken."""
    words = re.findall(r"\w+|\s+|[^\w\s]", mutant.before.strip())
    parts = [_part(word) for word in words if not word.isspace()]
    return list(re.finditer(r"\s*".join(parts), source))


def _part(word: str) -> str:
    # The formatter adds a comma where it breaks a call into lines.
    return r",?\s*" + re.escape(word) if word in ")]}" else re.escape(word)


def mutated(mutant: Mutant, source: str) -> str:
    """Return ``source`` with the bug; raises AssertionError unless its words stand there once."""
    found = matches(mutant, source)
    assert len(found) == 1, f"{mutant.module} has these words {len(found)} times: {mutant.before}"
    return source[: found[0].start()] + mutant.after.strip() + source[found[0].end() :]


def source_of(mutant: Mutant) -> str:
    """Return the source of its module, without the bug."""
    spec = importlib.util.find_spec(mutant.module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


class _Patcher(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module, and loads it with its bug."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        spec = importlib.util.find_spec(mutant.module)
        assert spec is not None
        assert spec.origin is not None
        importlib.machinery.SourceFileLoader.__init__(self, mutant.module, spec.origin)

    def find_spec(self, fullname: str, _path: Any = None, _target: ModuleType | None = None) -> Any:
        """Answer for this module alone."""
        if fullname != self._mutant.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, _fullname: str) -> CodeType:
        """Compile the patched source, past every cache."""
        source = self.get_data(self.path).decode()
        return compile(mutated(self._mutant, source), self.path, "exec")


def install(name: str) -> None:
    """Make the module of this mutant be imported with its bug."""
    mutant = MUTANTS[name]
    assert mutant.module not in sys.modules, "a mutant has to be there first"
    sys.meta_path.insert(0, _Patcher(mutant))


def found(name: str, seeds_max: int = SEEDS_MAX, first: int = 0) -> tuple[int, str]:
    """Return after how many seeds, and by which law, a mutant was found; 0 if it was not."""
    limits = ["--from", str(first), "--seeds", str(seeds_max)]
    command = [sys.executable, "-m", "simulation", "--mutant", name, *limits]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1) or "Traceback" in result.stderr:
        raise RuntimeError(f"{name}: {result.stderr}")
    seeds, _, law = result.stdout.strip().partition(" ")
    return (int(seeds), law) if result.returncode == 1 else (0, "")


def hunted(names: Sequence[str], seeds_max: int, processes: int) -> int:
    """Hunt for these mutants side by side, print what found them, and return 1 if one got away."""
    escaped, began = 0, time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        hunts = {pool.submit(found, name, seeds_max): name for name in names}
        for hunt in as_completed(hunts):
            seeds, law = hunt.result()
            escaped += not seeds
            print(f"{seeds or 'NOT FOUND':>9}  {hunts[hunt]:<55}  {law[:100]}", flush=True)
    print(f"{len(names)} mutants, {escaped} not found, {time.monotonic() - began:.0f} s")
    return 1 if escaped else 0
