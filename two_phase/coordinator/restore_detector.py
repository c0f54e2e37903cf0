"""Notices databases that came back from an older backup, whoever restored them, and says what new orders have to wait for.

    a participant   its counter of forced rounds is not higher than what had been heard from it before the round was sent
    the log         its counter of forced writes is lower than what a participant, or this process, has seen of it

Until `shop reconcile` has mended it nobody is asked to prepare; commits and aborts still go. That one of them was restored is
noted in the log, so that all replicas know, and that it stays known. Everything is looked at again once a second, so that nobody
needs a restart; a replica that starts asks every participant first, because its own memory is empty.
"""

import asyncio
import logging
from collections.abc import Sequence

from two_phase import metrics
from two_phase.coordinator.decision_log import LOG, DecisionLog, Standing
from two_phase.coordinator.remote_participant import Lane
from two_phase.errors import Unavailable
from two_phase.messages import Mark

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
#: The first pause before somebody who was not up yet is greeted again; it doubles each time.
GREET_SECONDS = 0.025


class Restores:
    """What one replica of the coordinator knows of how far everybody has come."""

    def __init__(self, lanes: Sequence[Lane], decision_log: DecisionLog, *, greeting_seconds: float) -> None:
        self._lanes = lanes
        self._log = decision_log
        self._greeting_seconds = greeting_seconds
        self._generation = 0
        self._log_is_behind = False
        self._opened = False
        #: Participants of which the log has a note.
        self._noted: set[str] = set()
        self._gauges = {name: metrics.RESTORED.labels(name) for name in (LOG, *(lane.name for lane in lanes))}

    def mark(self) -> Mark:
        """Return how far the log has come, as far as anybody has told us."""
        self.heed()
        return Mark(self._generation, self._log.known)

    def heed(self) -> None:
        """Let the log know what the participants have seen of it."""
        self._log.heed(max((lane.log_seen for lane in self._lanes), default=0))

    def heard(self) -> dict[str, int]:
        """Return the highest counter that was heard from each participant that counts."""
        return {lane.name: lane.heard for lane in self._lanes if lane.heard}

    def obstacle(self) -> str | None:
        """Return what new transactions have to wait for, if anything."""
        if not self._generation:
            return "the service is starting"
        if self._log_is_behind:
            return "the decision log was restored from an older backup; orders wait for its reconciliation"
        if restored := [lane.name for lane in self._lanes if lane.restored]:
            return f"{' and '.join(restored)} was restored from an older backup; orders wait for its reconciliation"
        if silent := [lane.name for lane in self._lanes if not lane.greeted]:
            return f"no answer from {' and '.join(silent)} since the service started"
        return None if self._opened else "the service is starting"

    def is_open(self) -> bool:
        """Return whether everybody has been greeted, or been waited for in vain for long enough."""
        return self._opened

    def log_is_behind(self) -> None:
        """Remember that the log has disowned a transaction."""
        self._log_is_behind = True

    async def watch(self) -> None:
        """Look once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        patience_ends = loop.time() + self._greeting_seconds
        pause_seconds = GREET_SECONDS
        while True:
            try:
                await self.look()
            except Exception as failure:  # noqa: BLE001 - whatever it was, the next look may succeed
                log.warning("nobody can tell how far the log has come", extra={"why": str(failure)})
            await asyncio.gather(*(self._greet(lane) for lane in self._lanes if not lane.greeted))
            if all(lane.greeted for lane in self._lanes) or loop.time() > patience_ends:
                self.heed()
                self._log.open()
                self._opened = True
            # Services that start together come up a moment after each other.
            pause_seconds = LOOK_SECONDS if self._opened else min(LOOK_SECONDS, 2 * pause_seconds)
            await asyncio.sleep(pause_seconds)

    async def look(self) -> None:
        """Ask the log how far it has come, and what it knows of the participants."""
        self.heed()
        # What we learn while it answers may be newer than the answer.
        known = self._log.known
        standing = await self._log.standing()
        self._generation = standing.generation
        behind = standing.written < known
        if behind and LOG not in standing.restored:
            # Else it would be forgotten as soon as others, who have seen less of it, have written so much.
            await self._log.note_restored(LOG, known)
        self._say(behind=behind or LOG in standing.restored)
        for lane in self._lanes:
            await self._compare(lane, standing)

    def _say(self, *, behind: bool) -> None:
        if behind and not self._log_is_behind:
            log.error("the log was restored from an older backup")
        self._log_is_behind = behind
        self._gauges[LOG].set(behind)

    async def _compare(self, lane: Lane, standing: Standing) -> None:
        heard = standing.heard.get(lane.name, 0)
        if lane.name in standing.restored:
            self._noted.add(lane.name)
            lane.restored = True
        elif lane.name in self._noted:
            self._noted.discard(lane.name)
            lane.is_reconciled(heard)
        elif lane.restored:
            await self._log.note_restored(lane.name, lane.heard)
            self._noted.add(lane.name)
        lane.heard = max(lane.heard, heard)
        self._gauges[lane.name].set(lane.restored)

    async def _greet(self, lane: Lane) -> None:
        if not self._generation:
            return
        try:
            await lane.greet(self.mark())
        except Unavailable as failure:
            log.warning("no answer from %s", lane.name, extra={"why": failure.detail})
