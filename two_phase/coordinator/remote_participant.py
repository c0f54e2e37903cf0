"""One lane per participant: what it still has to hear, and the rounds that tell it.

Decisions ride on the next round of prepares; when none gathers within ``linger_seconds`` they leave on a round of their own.
A decision stays on the list until the participant has acknowledged it (R8), so a lost round costs a repetition. The list
is bounded: what falls off its end is learnt by the participant's own sweep.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from two_phase import crash_points, metrics
from two_phase.errors import ProtocolViolation, Unavailable
from two_phase.messages import ROUND_DECISIONS_MAX, Ballot, Decision, Mark, Prepare, Round, TransactionId, Vote

log = logging.getLogger(__name__)

#: Decisions that one participant may owe an acknowledgement for; older ones are left to its sweep.
UNHEARD_MAX = 65_536
RETRY_SECONDS_MAX = 1.0


class Transport(Protocol):
    """Carries a round to one participant and brings its ballot back."""

    async def send(self, message: Round) -> Ballot:
        """Return the participant's ballot; raises Unavailable when there is no well-formed answer, whatever the reason."""
        ...


class Lane:
    """What one participant is asked and told."""

    def __init__(self, name: str, transport: Transport, *, linger_seconds: float = 0.01) -> None:
        self.name = name
        self._transport = transport
        self._linger_seconds = linger_seconds
        self._unheard: dict[TransactionId, Decision] = {}
        self._in_flight: set[TransactionId] = set()
        #: A ballot came and did not acknowledge them: something holds them up there, and must not hold up a round of prepares.
        self._held_up: set[TransactionId] = set()
        self._something_to_tell = asyncio.Event()
        #: The participant has answered since this process started, and whether it counts its forced rounds.
        self.greeted = False
        self.counts = False
        #: The highest counter that was heard from it, and the highest counter of the log that it has seen.
        self.heard = 0
        self.log_seen = 0
        #: It was restored from an older backup: what it votes counts for nothing until it is reconciled.
        self.restored = False
        self._reconciliations = 0

    @property
    def unheard(self) -> int:
        """How many decisions this participant has not acknowledged yet."""
        return len(self._unheard)

    def tell(self, decisions: Iterable[tuple[TransactionId, Decision]]) -> None:
        """Put durable decisions on the list; they leave with the next round, or soon."""
        self._unheard.update(decisions)
        while len(self._unheard) > UNHEARD_MAX:
            self._held_up.discard(oldest := next(iter(self._unheard)))
            self._unheard.pop(oldest)
        self._look_for_something_to_tell()

    def is_reconciled(self, heard: int) -> None:
        """Trust the participant again, beginning with the counter that the log has kept."""
        self._reconciliations += 1
        self.restored = False
        self.heard = heard

    async def greet(self, mark: Mark) -> None:
        """Ask how far the participant has come, and how far it has seen the log come; raises Unavailable."""
        heard, reconciliations = self.heard, self._reconciliations
        ballot = await self._sent(Round(generation=mark.generation))
        self.greeted = True
        self._count(ballot, heard, reconciliations)

    async def ask(self, prepares: Sequence[Prepare], mark: Mark) -> Mapping[TransactionId, Vote]:
        """Send the prepares with all that is unheard, and return the votes on them; raises Unavailable."""
        ballot = await self._exchange(mark, prepares)
        asked = {prepare.transaction_id for prepare in prepares}
        return {vote.transaction_id: vote for vote in ballot.votes if vote.transaction_id in asked}

    async def deliver(self, mark: Callable[[], Mark], prepares_are_near: Callable[[], bool]) -> None:
        """Tell what no round of prepares has carried, or will soon, for as long as the process lives."""
        pause_seconds = self._linger_seconds
        while True:
            await self._something_to_tell.wait()
            await asyncio.sleep(pause_seconds)
            if prepares_are_near():
                continue
            try:
                await self._exchange(mark(), ())
                pause_seconds = self._linger_seconds
                if self._held_up:
                    pause_seconds = RETRY_SECONDS_MAX
            except Unavailable as failure:
                pause_seconds = min(RETRY_SECONDS_MAX, pause_seconds * 2)
                log.info("decisions wait for their participant", extra={"participant": self.name, "why": failure.detail})

    async def _exchange(self, mark: Mark, prepares: Sequence[Prepare]) -> Ballot:
        decisions = self._take_along(alone=not prepares)
        if not decisions and not prepares:
            return Ballot()
        counting: dict[str, Any] = {"log_counter": mark.counter, "counter_heard": self.heard} if self.counts else {}
        message = Round(
            generation=mark.generation,
            aborts=[each for each, decision in decisions if decision is Decision.CANCELLED],
            commits=[each for each, decision in decisions if decision is Decision.CONFIRMED],
            prepares=list(prepares),
            **counting,
        )
        heard, reconciliations = self.heard, self._reconciliations
        try:
            ballot = await self._sent(message)
            self._heard(ballot)
            self._held_up.update(each for each, _ in decisions if each in self._unheard)
        finally:
            self._in_flight.difference_update(each for each, _ in decisions)
            self._look_for_something_to_tell()
        trusted = self._count(ballot, heard + bool(prepares), reconciliations)
        if prepares and not trusted:
            raise Unavailable(f"{self.name} was restored from an older backup")
        if prepares and ballot.counter is not None:
            # Only what a forced round says is durable.
            self.heard = max(self.heard, ballot.counter)
        return ballot

    async def _sent(self, message: Round) -> Ballot:
        metrics.ROUNDS.labels(self.name).inc()
        try:
            return await self._transport.send(message)
        except Unavailable:
            metrics.ROUNDS_FAILED.labels(self.name).inc()
            raise

    def _count(self, ballot: Ballot, at_least: int, reconciliations: int) -> bool:
        """Look at the counters of a ballot, and return False if it is from a database that has fallen back."""
        if ballot.counter is None:
            return True
        self.counts = True
        self.log_seen = max(self.log_seen, ballot.log_seen)
        if ballot.counter >= at_least:
            return True
        # A ballot that was under way while the participant was reconciled says nothing of today.
        if reconciliations == self._reconciliations and not self.restored:
            self.restored = True
            log.error(
                "%s was restored from an older backup",
                self.name,
                extra={"participant": self.name, "counter": ballot.counter, "expected": at_least},
            )
        return False

    def _take_along(self, *, alone: bool) -> list[tuple[TransactionId, Decision]]:
        left = self._in_flight if alone else self._in_flight | self._held_up
        waiting = [each for each in self._unheard.items() if each[0] not in left][:ROUND_DECISIONS_MAX]
        self._in_flight.update(each for each, _ in waiting)
        self._look_for_something_to_tell()
        return waiting

    def _look_for_something_to_tell(self) -> None:
        """Let ``deliver`` sleep while all that is unheard is on its way: a silent participant must not keep it awake."""
        if len(self._unheard) > len(self._in_flight):
            self._something_to_tell.set()
        else:
            self._something_to_tell.clear()

    def _heard(self, ballot: Ballot) -> None:
        for transaction_id in ballot.acknowledged:
            self._unheard.pop(transaction_id, None)
        self._held_up.difference_update(ballot.acknowledged)
        for violation in ballot.violations:
            # Repeating it would not help; the participant has logged and counted it, and so do we.
            self._unheard.pop(violation.transaction_id, None)
            self._held_up.discard(violation.transaction_id)
            metrics.VIOLATIONS.inc()
            log.error("%s", ProtocolViolation(violation.detail), extra={"participant": self.name, **violation.model_dump()})
        metrics.UNHEARD.labels(self.name).set(len(self._unheard))
        if ballot.acknowledged:
            crash_points.reach("first_decision_delivered")
