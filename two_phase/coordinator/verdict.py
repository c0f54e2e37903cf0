"""The coordinator's rule, as a function: votes and silences in, a verdict out.

No clock, no socket, no database.

every participant voted prepared  ->  confirmed
anybody refused, or was silent    ->  cancelled, and every participant hears of it (R7)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from two_phase.messages import Decision, TransactionId, Vote


@dataclass(frozen=True, slots=True)
class Transaction:
    """What the coordinator asks for: one payload per participant, all of them or none.

    ``instead_of`` names earlier attempts, which the participants abort first; ``record`` is what
    the decision log keeps beside the decision, and ``memo`` what the participants keep of that
    beside their branches: both mean nothing to the protocol.
    """

    transaction_id: TransactionId
    payloads: Mapping[str, Mapping[str, Any]]
    instead_of: tuple[TransactionId, ...] = ()
    record: Any = None
    memo: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The coordinator's opinion on one transaction: no decision before the log has taken it."""

    transaction: Transaction
    decision: Decision
    votes: Mapping[str, Vote] = field(default_factory=dict)

    @property
    def refusals(self) -> dict[str, Vote]:
        """The refusals that were heard, by participant."""
        return {name: vote for name, vote in self.votes.items() if not vote.prepared}

    @property
    def silent(self) -> list[str]:
        """The participants that gave no vote."""
        return [name for name in self.transaction.payloads if name not in self.votes]


def judge(transaction: Transaction, votes: Mapping[str, Vote]) -> Verdict:
    """Return the verdict on the ``votes`` heard so far.

    A participant without a vote counts as a no.

    Raises AssertionError for a vote on another transaction or from somebody who was not asked: that
    is a bug in the caller.
    """
    assert votes.keys() <= transaction.payloads.keys()
    assert all(vote.transaction_id == transaction.transaction_id for vote in votes.values())
    unanimous = len(votes) == len(transaction.payloads) and all(
        vote.prepared for vote in votes.values()
    )
    decision = Decision.CONFIRMED if unanimous else Decision.CANCELLED
    return Verdict(transaction, decision, votes)
