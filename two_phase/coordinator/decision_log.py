"""What the engine asks of a decision log, the only place where the outcome of a transaction exists.

An implementation promises three things. The first writer wins: a decision is inserted, never
updated. What it returns is durable. And what it returns is what the log *says*, which may differ
from what was asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from two_phase.coordinator.verdict import Verdict
from two_phase.messages import Decision, InDoubt, Outcomes, TransactionId


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """What the log says of a transaction; ``existed`` if the row was not written by this very call.

    A row found may be another's: the answer to a request with a key must then be read from the log,
    not from the votes.
    """

    decision: Decision
    existed: bool = False


#: What the log calls itself among those who were restored.
LOG = "log"


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How far the log has come, and what it knows of its participants.

    The ``generation`` rises when the log has been reconciled after it was restored from an older
    backup; ``log_position`` counts forced writes. ``round_counts`` is the highest counter that was
    heard from each participant, and ``restored`` are those that were restored and wait for their
    reconciliation; both know the log itself as ``LOG``, once somebody has noticed that it fell
    back.
    """

    generation: int
    log_position: int
    round_counts: Mapping[str, int] = field(default_factory=dict)
    restored: frozenset[str] = frozenset()


class DecisionLog(Protocol):
    """The log of one coordinator, shared by all its replicas."""

    @property
    def log_position(self) -> int:
        """How far the log had come, as far as this process knows.

        It writes nothing if it is behind that (R12).
        """
        ...

    def observe(self, log_seen: int) -> None:
        """Know that a participant, or a replica, has seen the log at ``log_seen``."""
        ...

    def open(self) -> None:
        """Answer questions about unknown transactions from now on.

        Those who may have seen more have been heard.
        """
        ...

    async def status(self) -> LogStatus:
        """Return how far the log has come."""
        ...

    async def note_restored(self, name: str, seen: int = 0) -> None:
        """Tell all replicas that a participant, or the LOG, last seen at ``seen``, was restored.

        A log that has come so far, which means that it was reconciled meanwhile, takes no such note
        of itself. One that has taken it decides nothing, however far it comes, until it is
        reconciled.
        """
        ...

    async def decide(
        self, verdicts: Sequence[Verdict], generation: int, round_counts_seen: Mapping[str, int]
    ) -> Mapping[TransactionId, LoggedDecision]:
        """Write the verdicts, each unless its transaction is decided already.

        Return what the log says of each.

        ``generation`` is the log's generation in which these transactions began; ``round_counts``
        is the highest counter that was heard from each participant, to be kept.

        After it returns the decisions may be told. A transaction that is missing in the answer is
        not this log's to decide (it was begun by another generation, or by a log that had come
        further): nothing was written, and a human is needed. If it raises, nothing is known: the
        same call may be repeated, and tells the truth once it returns.
        """
        ...

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Return the decisions on ``transactions``.

        One that is unknown is cancelled first, durably, so that it stays so.
        """
        ...

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Return the decisions recorded by now, and write nothing.

        Raises Unavailable where a log that is behind would guess.
        """
        ...
