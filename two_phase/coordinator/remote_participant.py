"""One participant per participant: what it still has to hear, and the rounds that tell it.

Decisions ride on the next round of prepares; when none gathers within ``linger_seconds`` they leave
on a round of their own. A decision stays on the list until the participant has acknowledged it
(R8), so a lost round costs a repetition. The list is bounded: what falls off its end is learnt by
the participant's own recovery.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from two_phase import crash_points, metrics
from two_phase.coordinator.round_history import RoundHistory
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
        #: What was heard of its counts (R12).
        self.history = RoundHistory(name)

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

    async def handshake(self, position: LogPosition) -> None:
        """Ask how far the participant has come, and how far it has seen the log come.

        Raises Unavailable.
        """
        before = self.history.before(forced=False)
        ballot = await self._sent(Round(generation=position.generation))
        self.history.connected = True
        self.history.hear(ballot, before, forced=False)

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
        """Announce what no round of prepares carries soon, until cancelled."""
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
        message = Round(
            generation=position.generation,
            aborts=[each for each, decision in decisions if decision is Decision.CANCELLED],
            commits=[each for each, decision in decisions if decision is Decision.CONFIRMED],
            prepares=list(prepares),
            **self.history.tells(position),
        )
        forced = bool(prepares)
        before = self.history.before(forced=forced)
        try:
            ballot = await self._sent(message)
            self._heard(ballot)
            self._held_up.update(each for each, _ in decisions if each in self._unacknowledged)
        finally:
            self._in_flight.difference_update(each for each, _ in decisions)
            self._look_for_something_to_announce()
        trusted = self.history.hear(ballot, before, forced=forced)
        if forced and not trusted:
            raise Unavailable(f"{self.name} was restored from an older backup")
        return ballot

    async def _sent(self, message: Round) -> Ballot:
        metrics.ROUNDS.labels(self.name).inc()
        try:
            return await self._transport.send(message)
        except Unavailable:
            metrics.ROUNDS_FAILED.labels(self.name).inc()
            raise

    def _take_along(self, *, alone: bool) -> list[tuple[TransactionId, Decision]]:
        left = self._in_flight if alone else self._in_flight | self._held_up
        waiting = [each for each in self._unacknowledged.items() if each[0] not in left][
            :ROUND_DECISIONS_MAX
        ]
        self._in_flight.update(each for each, _ in waiting)
        self._look_for_something_to_announce()
        return waiting

    def _look_for_something_to_announce(self) -> None:
        """Let ``deliver`` sleep while all is on its way, so that silence does not keep it awake."""
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
