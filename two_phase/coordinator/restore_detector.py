"""Notices databases that came back from an older backup, and says why transactions must wait.

    a participant   its round count is not higher than it was seen before the round was sent
    the log         its count of forced writes is lower than a participant, or we, have seen it

Until a reconciliation has mended it no participant is asked to prepare; commits and aborts still
go. That
one of them was restored is noted in the log, so that all replicas know, and that it stays known.
Everything is looked at again once a second, so that nobody needs a restart; a replica that starts
asks every participant first, because its own memory is empty.
"""

import asyncio
import logging
from collections.abc import Sequence

from two_phase import metrics
from two_phase.coordinator.decision_log import LOG, DecisionLog, LogStatus
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.wording import Wording
from two_phase.errors import Unavailable
from two_phase.messages import LogPosition

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
#: The first pause before a participant that was not up yet is asked again; it doubles each time.
HANDSHAKE_SECONDS = 0.025


class RestoreDetector:
    """How far the log and all participants have come, as one replica knows it."""

    def __init__(
        self,
        participants: Sequence[RemoteParticipant],
        decision_log: DecisionLog,
        wording: Wording,
        *,
        startup_grace_seconds: float,
    ) -> None:
        self._participants = participants
        self._log = decision_log
        self._wording = wording
        self._startup_grace_seconds = startup_grace_seconds
        self._generation = 0
        self._log_is_behind = False
        self._opened = False
        #: Participants of which the log has a note.
        self._noted: set[str] = set()
        self._gauges = {
            name: metrics.RESTORED.labels(name)
            for name in (LOG, *(participant.name for participant in participants))
        }

    def position(self) -> LogPosition:
        """Return how far the log has come, as far as anybody has told us."""
        self.observe()
        return LogPosition(self._generation, self._log.log_position)

    def observe(self) -> None:
        """Let the log know what the participants have seen of it."""
        self._log.observe(
            max(
                (participant.history.log_position_seen for participant in self._participants),
                default=0,
            )
        )

    def round_counts_seen(self) -> dict[str, int]:
        """Return the highest counter that was heard from each participant that counts."""
        return {
            participant.name: participant.history.round_count_seen
            for participant in self._participants
            if participant.history.round_count_seen
        }

    def blocking_reason(self) -> str | None:
        """Return what new transactions have to wait for, if anything."""
        if not self._generation:
            return "the service is starting"
        if self._log_is_behind:
            return self._wording.restored("the decision log")
        if restored := [
            participant.name for participant in self._participants if participant.history.restored
        ]:
            return self._wording.restored(" and ".join(restored))
        if silent := [
            participant.name
            for participant in self._participants
            if not participant.history.connected
        ]:
            return f"no answer from {' and '.join(silent)} since the service started"
        return None if self._opened else "the service is starting"

    def is_open(self) -> bool:
        """Return whether all participants are connected, or were waited for long enough."""
        return self._opened

    def log_is_behind(self) -> None:
        """Remember that the log has disowned a transaction."""
        self._log_is_behind = True

    async def watch(self) -> None:
        """Look once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        grace_ends = loop.time() + self._startup_grace_seconds
        pause_seconds = HANDSHAKE_SECONDS
        while True:
            try:
                await self.look()
            except Exception as failure:  # noqa: BLE001 - whatever it was, the next look may succeed
                log.warning("nobody can tell how far the log has come", extra={"why": str(failure)})
            await asyncio.gather(
                *(
                    self._handshake(participant)
                    for participant in self._participants
                    if not participant.history.connected
                )
            )
            if (
                all(participant.history.connected for participant in self._participants)
                or loop.time() > grace_ends
            ):
                self.observe()
                self._log.open()
                self._opened = True
            # Services that start together come up a moment after each other.
            pause_seconds = LOOK_SECONDS if self._opened else min(LOOK_SECONDS, 2 * pause_seconds)
            await asyncio.sleep(pause_seconds)

    async def look(self) -> None:
        """Ask the log how far it has come, and what it knows of the participants."""
        self.observe()
        # What we learn while it answers may be newer than the answer.
        seen = self._log.log_position
        status = await self._log.status()
        self._generation = status.generation
        behind = status.log_position < seen
        if behind and LOG not in status.restored:
            # Else it would be forgotten as soon as others, who have seen less of it, have written
            # so much.
            await self._log.note_restored(LOG, seen)
        self._say(behind=behind or LOG in status.restored)
        for participant in self._participants:
            await self._compare(participant, status)

    def _say(self, *, behind: bool) -> None:
        if behind and not self._log_is_behind:
            log.error("the log was restored from an older backup")
        self._log_is_behind = behind
        self._gauges[LOG].set(behind)

    async def _compare(self, participant: RemoteParticipant, status: LogStatus) -> None:
        heard = status.round_counts.get(participant.name, 0)
        if participant.name in status.restored:
            self._noted.add(participant.name)
            participant.history.restored = True
        elif participant.name in self._noted:
            self._noted.discard(participant.name)
            participant.history.is_reconciled(heard)
        elif participant.history.restored:
            await self._log.note_restored(participant.name, participant.history.round_count_seen)
            self._noted.add(participant.name)
        participant.history.round_count_seen = max(participant.history.round_count_seen, heard)
        self._gauges[participant.name].set(participant.history.restored)

    async def _handshake(self, participant: RemoteParticipant) -> None:
        if not self._generation:
            return
        try:
            await participant.handshake(self.position())
        except Unavailable as failure:
            log.warning("no answer from %s", participant.name, extra={"why": failure.detail})
