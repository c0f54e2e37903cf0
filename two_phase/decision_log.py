"""What the engine asks of a decision log, the only place where the outcome of a transaction exists.

An implementation promises three things. The first writer wins: a decision is inserted, never updated. What it returns is
durable. And what it returns is what the log *says*, which may differ from what was asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from two_phase.coordinator import Verdict
from two_phase.protocol import Decision, InDoubt, Outcomes, TransactionId


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the log says of a transaction; ``found`` if the row was not written by this very call.

    A row found may be another's: the answer to a request with a key must then be read from the log, not from the votes.
    """

    decision: Decision
    found: bool = False


class DecisionLog(Protocol):
    """The log of one coordinator, shared by all its replicas."""

    async def generation(self) -> int:
        """Return the log's generation, which rises when the log is restored from an older backup."""
        ...

    async def decide(self, verdicts: Sequence[Verdict], generation: int) -> Mapping[TransactionId, Recorded]:
        """Write the verdicts, each unless its transaction is decided already; return what the log says of each.

        ``generation`` is the log's generation in which these transactions began.

        After it returns the decisions may be told. A transaction that is missing in the answer is not this log's to decide
        (it was begun by another generation): nothing was written, and a human is needed. If it raises, nothing is known:
        the same call may be repeated, and tells the truth once it returns.
        """
        ...

    async def outcomes(self, transactions: Sequence[InDoubt]) -> Outcomes:
        """Return the decisions on ``transactions``; one that is unknown is cancelled first, durably, so that it stays so."""
        ...

    async def peek(self, transactions: Sequence[InDoubt]) -> Outcomes:
        """Return the decisions recorded by now, and write nothing."""
        ...
