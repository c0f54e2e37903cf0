"""A coordinator with all that it talks to, in memory.

Participants that vote, refuse or stay silent, and a log that can fail.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.decision_log import LOG, LoggedDecision, LogStatus
from two_phase.coordinator.limits import Limits
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.verdict import Transaction, Verdict
from two_phase.errors import Unavailable
from two_phase.messages import Ballot, Decision, InDoubt, Outcomes, Round, TransactionId, Vote

PARTICIPANTS = ("payment", "stock", "delivery")


LIMITS = Limits(
    batch=2,
    queue=4,
    unsure=2,
    prepare_seconds=30,
    decision_seconds=30,
    queue_timeout_seconds=30,
    arrival_seconds=30,
)


LINGER_SECONDS = 0.001


#: For those who wait for what never comes.
IMPATIENT = replace(LIMITS, prepare_seconds=0.05, decision_seconds=0.05, arrival_seconds=0.05)


def transaction(number: int, **options: Any) -> Transaction:
    """Return a transaction for all three."""
    payloads = {name: {"number": number} for name in PARTICIPANTS}
    return Transaction(f"00000000-0000-7000-8000-{number:012x}", payloads, **options)


class Participant:
    """Votes yes, refuses, or is silent."""

    def __init__(self, events: list[str], name: str) -> None:
        self.refuses = False
        self.silent = False
        #: Its counter of forced rounds, if it counts.
        self.counter: int | None = None
        self.log_seen = 0
        self.rounds: list[Round] = []
        self._events = events
        self._name = name

    async def send(self, message: Round) -> Ballot:
        """Return a ballot."""
        if message == Round(generation=message.generation):
            return self._handshake()
        self.rounds.append(message)
        if message.prepares and self.counter is not None:
            self.counter += 1
        self._events += [
            f"{self._name} hears of {each}" for each in (*message.commits, *message.aborts)
        ]
        if self.silent:
            await asyncio.Event().wait()
        votes = [self._vote(each.transaction_id) for each in message.prepares]
        acknowledged = [*message.aborts, *message.commits]
        return Ballot(
            counter=self.counter, log_seen=self.log_seen, votes=votes, acknowledged=acknowledged
        )

    def _handshake(self) -> Ballot:
        if self.silent:
            raise Unavailable("silent")
        return Ballot(counter=self.counter, log_seen=self.log_seen)

    def _vote(self, transaction_id: TransactionId) -> Vote:
        reason = "no" if self.refuses else None
        return Vote(transaction_id=transaction_id, prepared=not self.refuses, reason=reason)


class Log:
    """First writer wins, in memory; it can fail, hang, and lose replies."""

    def __init__(self, events: list[str]) -> None:
        self.rows: dict[TransactionId, Decision] = {}
        self.stands = LogStatus(generation=1, log_position=0)
        self.position_seen = 0
        self.opened = False
        self.heard: list[dict[str, int]] = []
        self.calls: list[list[TransactionId]] = []
        #: What happens to the next calls: "fails", "loses the reply", "hangs", "hangs and fails".
        self.faults: list[str] = []
        self.released = asyncio.Event()
        self._events = events

    @property
    def log_position(self) -> int:
        """How far the log had come."""
        return self.position_seen

    def observe(self, log_seen: int) -> None:
        """Know that somebody has seen the log there."""
        self.position_seen = max(self.position_seen, log_seen)

    def open(self) -> None:
        """Answer from now on."""
        self.opened = True

    async def status(self) -> LogStatus:
        """Return how far the log has come."""
        return self.stands

    async def note_restored(self, name: str, seen: int = 0) -> None:
        """Remember it."""
        if name != LOG or self.stands.log_position < seen:
            self.stands = replace(self.stands, restored=self.stands.restored | {name})

    async def decide(
        self, verdicts: Sequence[Verdict], generation: int, heard: Mapping[str, int]
    ) -> Mapping[TransactionId, LoggedDecision]:
        """Write what is not written yet."""
        self.heard.append(dict(heard))
        self.calls.append([each.transaction.transaction_id for each in verdicts])
        fault = self.faults.pop(0) if self.faults else ""
        if fault.startswith("hangs"):
            await self.released.wait()
        if fault.endswith("fails"):
            raise ConnectionError(fault)
        if generation != self.stands.generation or self.stands.log_position < self.position_seen:
            return {}
        found = {each.transaction.transaction_id for each in verdicts} & self.rows.keys()
        for each in verdicts:
            self.rows.setdefault(each.transaction.transaction_id, each.decision)
        self._events.append("decided")
        if fault == "loses the reply":
            raise ConnectionError(fault)
        ids = [each.transaction.transaction_id for each in verdicts]
        return {each: LoggedDecision(self.rows[each], existed=each in found) for each in ids}

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Cancel what is unknown."""
        self.observe(log_seen)
        for each in transactions:
            self.rows.setdefault(each.transaction_id, Decision.CANCELLED)
        return Outcomes()

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Nobody asks."""
        raise NotImplementedError(transactions, log_seen)


class Shop:
    """A coordinator with all that it talks to."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.events: list[str] = []
        self.participants = {name: Participant(self.events, name) for name in PARTICIPANTS}
        self.log = Log(self.events)
        participants = [
            RemoteParticipant(name, participant, linger_seconds=LINGER_SECONDS)
            for name, participant in self.participants.items()
        ]
        self.coordinator = Coordinator(participants, self.log, limits)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Coordinator]:
        """Run the coordinator."""
        task = asyncio.create_task(self.coordinator.run())
        while not self.log.opened:
            await asyncio.sleep(0)
        yield self.coordinator
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
