"""What the caller of a coordinator holds of its transaction, and what became of it."""

import asyncio
from dataclasses import dataclass, field

from two_phase.coordinator.unanswered import let_go
from two_phase.coordinator.verdict import Transaction, Verdict
from two_phase.messages import Decision


@dataclass(slots=True, eq=False)
class Ticket:
    """What ``submit`` gives back.

    The caller awaits ``outcome`` and, when its time is up first, calls ``give_up``.
    """

    transaction: Transaction
    submitted: float
    outcome: asyncio.Future["Outcome"] = field(repr=False)
    #: A ``confirmed`` insert has left for the log: from here on only the log knows.
    confirm_sent: bool = False
    #: The caller gave up while nothing was decided: from here on it can only be cancelled.
    abandoned: bool = False

    def give_up(self) -> bool:
        """Return whether it can only be cancelled from now on; else the log is deciding it."""
        self.abandoned = not self.confirm_sent
        return self.abandoned

    def fail(self, failure: Exception) -> None:
        """Tell the caller that nothing was decided."""
        if not self.outcome.done():
            self.outcome.set_exception(failure)
            let_go(self.outcome)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A durable decision, and the verdict that led to it (which the log may have overruled).

    ``existed`` if the decision was in the log already: by an earlier try to write it, or by
    somebody else.
    """

    decision: Decision
    verdict: Verdict
    existed: bool = False
