"""Participants that count, rightly or not."""

from conformance.in_memory import MemoryParticipant
from two_phase.messages import Ballot, Round


class Counts(MemoryParticipant):
    """It counts its forced rounds, and remembers how far it has seen the log.

    Nothing is wrong with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0
        self.log_seen = 0

    def round(self, message: Round) -> Ballot:
        """Count, and tell those who ask."""
        if message.prepares and self.has_fallen_back(message):
            return Ballot(counter=self.counter, log_seen=self.log_seen)
        self.counter += self.steps(message)
        self.log_seen = self.remembered(message.log_counter or 0)
        ballot = super().round(message)
        asked = message.log_counter is not None or not (
            message.aborts or message.commits or message.prepares
        )
        told = {"counter": self.counter, "log_seen": self.log_seen} if asked else {}
        return ballot.model_copy(update=told)

    def has_fallen_back(self, message: Round) -> bool:
        """Return whether more was heard than there is."""
        return self.counter < message.counter_heard

    def steps(self, message: Round) -> int:
        """Return how much a round counts."""
        return bool(message.prepares)

    def remembered(self, log_counter: int) -> int:
        """Return how far the log was seen."""
        return max(self.log_seen, log_counter)

    def written(self, ballot: Ballot) -> str:
        """Tell the counters, where they were asked for."""
        return ballot.model_dump_json() if ballot.counter is not None else super().written(ballot)


class CountsNothing(Counts):
    """Its counter stands still."""

    def steps(self, message: Round) -> int:
        """Count none."""
        return 0 * len(message.prepares)


class TakesAllTheSame(Counts):
    """It does not mind how much was heard of it."""

    def has_fallen_back(self, message: Round) -> bool:
        """Never, it thinks."""
        return message.counter_heard < 0


class BelievesTheLast(Counts):
    """It remembers what it was told last of the log."""

    def remembered(self, log_counter: int) -> int:
        """Forget what was higher."""
        return log_counter or self.log_seen
