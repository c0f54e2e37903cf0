"""How far one participant was seen to have come: a restored database is noticed by it (R12)."""

import logging
from typing import Any, NamedTuple

from two_phase.messages import Ballot, LogPosition

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What was known when a round left: its answer must not be behind that."""

    round_count: int
    reconciliations: int


class RoundHistory:
    """The counts that one participant has told."""

    def __init__(self, name: str) -> None:
        self._name = name
        #: The participant has answered since this process started, and whether it counts its forced
        #: rounds.
        self.connected = False
        self.counts = False
        #: The highest count that was heard from it, and the highest position of the log that it has
        #: seen.
        self.round_count_seen = 0
        self.log_position_seen = 0
        #: It was restored from an older backup: what it votes counts for nothing until it is
        #: reconciled.
        self.restored = False
        self._reconciliations = 0

    def is_reconciled(self, round_count_seen: int) -> None:
        """Trust the participant again, beginning with the count that the log has kept."""
        self._reconciliations += 1
        self.restored = False
        self.round_count_seen = round_count_seen

    def tells(self, position: LogPosition) -> dict[str, Any]:
        """Return what a round says of both sides' counts."""
        if not self.counts:
            return {}
        return {"log_counter": position.counter, "counter_heard": self.round_count_seen}

    def before(self, *, forced: bool) -> Seen:
        """Return what is known now, before a round leaves; a ``forced`` one must count more."""
        return Seen(self.round_count_seen + forced, self._reconciliations)

    def hear(self, ballot: Ballot, before: Seen, *, forced: bool) -> bool:
        """Compare the counts of a ballot, and return False if its database has fallen back."""
        if ballot.counter is None:
            return True
        self.counts = True
        self.log_position_seen = max(self.log_position_seen, ballot.log_seen)
        if ballot.counter < before.round_count:
            self._is_behind(ballot.counter, before)
            return False
        if forced:
            # Only what a forced round says is durable.
            self.round_count_seen = max(self.round_count_seen, ballot.counter)
        return True

    def _is_behind(self, counter: int, before: Seen) -> None:
        # A ballot that was under way while the participant was reconciled says nothing of today.
        if before.reconciliations != self._reconciliations or self.restored:
            return
        self.restored = True
        log.error(
            "%s was restored from an older backup",
            self._name,
            extra={
                "participant": self._name,
                "counter": counter,
                "expected": before.round_count,
            },
        )
