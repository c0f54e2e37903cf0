"""One participant per participant: what it still has to hear, and the rounds that tell it.

Decisions ride on the next round of prepares; when none gathers within ``linger_seconds`` they leave
on a round of their own. A decision stays on the list until the participant has acknowledged it
(R8), so a lost round costs a repetition. The list is bounded: what falls off its end is learnt by
the participant's own recovery.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from two_phase import crash_points, metrics
from two_phase.errors import ProtocolViolation, Unavailable
from two_phase.messages import (
    ROUND_DECISIONS_MAX,
    Ballot,
    Decision,
    LogPosition,
    Prepare,
    Round,
    TransactionId,
    Vote,
)

log = logging.getLogger(__name__)

#: Decisions that one participant may owe an acknowledgement for; older ones are left to its
#: recovery.
UNACKNOWLEDGED_MAX = 65_536
RETRY_SECONDS_MAX = 1.0


class Transport(Protocol):
    """Carries a round to one participant and brings its ballot back."""

    async def send(self, message: Round) -> Ballot:
        """Return the participant's ballot.

        Raises Unavailable when there is no well-formed answer, whatever the reason.
        """
        ...


class RemoteParticipant:
    """What one participant is asked and told."""

    def __init__(self, name: str, transport: Transport, *, linger_seconds: float = 0.01) -> None:
        self.name = name
        self._transport = transport
        self._linger_seconds = linger_seconds
        self._unacknowledged: dict[TransactionId, Decision] = {}
        self._in_flight: set[TransactionId] = set()
        #: A ballot came and did not acknowledge them: something holds them up there, and must not
        #: hold up a round of prepares.
        self._held_up: set[TransactionId] = set()
        self._something_to_announce = asyncio.Event()
        #: The participant has answered since this process started, and whether it counts its forced
        #: rounds.
        self.connected = False
        self.counts = False
        #: The highest counter that was heard from it, and the highest counter of the log that it
        #: has seen.
        self.round_count_seen = 0
        self.log_position_seen = 0
        #: It was restored from an older backup: what it votes counts for nothing until it is
        #: reconciled.
        self.restored = False
        self._reconciliations = 0

    @property
    def unacknowledged(self) -> int:
        """How many decisions this participant has not acknowledged yet."""
        return len(self._unacknowledged)

    def announce(self, decisions: Iterable[tuple[TransactionId, Decision]]) -> None:
        """Put durable decisions on the list; they leave with the next round, or soon."""
        self._unacknowledged.update(decisions)
        while len(self._unacknowledged) > UNACKNOWLEDGED_MAX:
            self._held_up.discard(oldest := next(iter(self._unacknowledged)))
            self._unacknowledged.pop(oldest)
        self._look_for_something_to_announce()

    def is_reconciled(self, round_count_seen: int) -> None:
        """Trust the participant again, beginning with the counter that the log has kept."""
        self._reconciliations += 1
        self.restored = False
        self.round_count_seen = round_count_seen

    async def handshake(self, position: LogPosition) -> None:
        """Ask how far the participant has come, and how far it has seen the log come.

        Raises Unavailable.
        """
        round_count_seen, reconciliations = self.round_count_seen, self._reconciliations
        ballot = await self._sent(Round(generation=position.generation))
        self.connected = True
        self._count(ballot, round_count_seen, reconciliations)

    async def ask(
        self, prepares: Sequence[Prepare], position: LogPosition
    ) -> Mapping[TransactionId, Vote]:
        """Send the prepares with all that is unacknowledged, and return the votes on them.

        Raises Unavailable.
        """
        ballot = await self._exchange(position, prepares)
        asked = {prepare.transaction_id for prepare in prepares}
        return {vote.transaction_id: vote for vote in ballot.votes if vote.transaction_id in asked}

    async def deliver(
        self, position: Callable[[], LogPosition], prepares_are_near: Callable[[], bool]
    ) -> None:
        """Tell what no round of prepares has carried, or will soon, for as long as the process lives."""
        pause_seconds = self._linger_seconds
        while True:
            await self._something_to_announce.wait()
            await asyncio.sleep(pause_seconds)
            if prepares_are_near():
                continue
            try:
                await self._exchange(position(), ())
                pause_seconds = self._linger_seconds
                if self._held_up:
                    pause_seconds = RETRY_SECONDS_MAX
            except Unavailable as failure:
                pause_seconds = min(RETRY_SECONDS_MAX, pause_seconds * 2)
                log.info(
                    "decisions wait for their participant",
                    extra={"participant": self.name, "why": failure.detail},
                )

    async def _exchange(self, position: LogPosition, prepares: Sequence[Prepare]) -> Ballot:
        decisions = self._take_along(alone=not prepares)
        if not decisions and not prepares:
            return Ballot()
        counting: dict[str, Any] = (
            {"log_counter": position.counter, "counter_heard": self.round_count_seen}
            if self.counts
            else {}
        )
        message = Round(
            generation=position.generation,
            aborts=[each for each, decision in decisions if decision is Decision.CANCELLED],
            commits=[each for each, decision in decisions if decision is Decision.CONFIRMED],
            prepares=list(prepares),
            **counting,
        )
        round_count_seen, reconciliations = self.round_count_seen, self._reconciliations
        try:
            ballot = await self._sent(message)
            self._heard(ballot)
            self._held_up.update(each for each, _ in decisions if each in self._unacknowledged)
        finally:
            self._in_flight.difference_update(each for each, _ in decisions)
            self._look_for_something_to_announce()
        trusted = self._count(ballot, round_count_seen + bool(prepares), reconciliations)
        if prepares and not trusted:
            raise Unavailable(f"{self.name} was restored from an older backup")
        if prepares and ballot.counter is not None:
            # Only what a forced round says is durable.
            self.round_count_seen = max(self.round_count_seen, ballot.counter)
        return ballot

    async def _sent(self, message: Round) -> Ballot:
        metrics.ROUNDS.labels(self.name).inc()
        try:
            return await self._transport.send(message)
        except Unavailable:
            metrics.ROUNDS_FAILED.labels(self.name).inc()
            raise

    def _count(self, ballot: Ballot, round_count_seen_before: int, reconciliations: int) -> bool:
        """Look at the counters of a ballot, and return False if it is from a database that has fallen back."""
        if ballot.counter is None:
            return True
        self.counts = True
        self.log_position_seen = max(self.log_position_seen, ballot.log_seen)
        if ballot.counter >= round_count_seen_before:
            return True
        # A ballot that was under way while the participant was reconciled says nothing of today.
        if reconciliations == self._reconciliations and not self.restored:
            self.restored = True
            log.error(
                "%s was restored from an older backup",
                self.name,
                extra={
                    "participant": self.name,
                    "counter": ballot.counter,
                    "expected": round_count_seen_before,
                },
            )
        return False

    def _take_along(self, *, alone: bool) -> list[tuple[TransactionId, Decision]]:
        left = self._in_flight if alone else self._in_flight | self._held_up
        waiting = [each for each in self._unacknowledged.items() if each[0] not in left][
            :ROUND_DECISIONS_MAX
        ]
        self._in_flight.update(each for each, _ in waiting)
        self._look_for_something_to_announce()
        return waiting

    def _look_for_something_to_announce(self) -> None:
        """Let ``deliver`` sleep while all that is unacknowledged is on its way.

        A silent participant must not keep it awake.
        """
        if len(self._unacknowledged) > len(self._in_flight):
            self._something_to_announce.set()
        else:
            self._something_to_announce.clear()

    def _heard(self, ballot: Ballot) -> None:
        for transaction_id in ballot.acknowledged:
            self._unacknowledged.pop(transaction_id, None)
        self._held_up.difference_update(ballot.acknowledged)
        for violation in ballot.violations:
            # Repeating it would not help; the participant has logged and counted it, and so do we.
            self._unacknowledged.pop(violation.transaction_id, None)
            self._held_up.discard(violation.transaction_id)
            metrics.VIOLATIONS.inc()
            log.error(
                "%s",
                ProtocolViolation(violation.detail),
                extra={"participant": self.name, **violation.model_dump()},
            )
        metrics.UNACKNOWLEDGED.labels(self.name).set(len(self._unacknowledged))
        if ballot.acknowledged:
            crash_points.reach("first_decision_delivered")
