"""What a participant writes down of a transaction, and the contract of the store that keeps it.

A branch is a promise on disk: it holds what repeating, committing and giving back need.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pydantic_core import to_json

from two_phase.errors import Refused
from two_phase.messages import InDoubt, Prepare, State, Taken, TransactionId, Vote
from two_phase.participant.round_counter import Counters

C = TypeVar("C")

#: An id below all others, from which a walk over the branches begins.
BEFORE_ALL: TransactionId = "00000000-0000-0000-0000-000000000000"


class Collision(Exception):
    """Another session was faster; nothing was written, and the round may be tried again."""


class Locked(Collision):
    """Another session has locked a row for longer than any round does; nothing was written."""


class Poison(Exception):
    """The database refused what one of the branches asked for; nothing was written."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What one participant holds for one transaction; ``payload`` and ``memo`` as JSON texts."""

    transaction_id: TransactionId
    state: State
    generation: int
    payload: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    detail: str | None = None
    contended: bool = False
    memo: str | None = None

    def without_content(self) -> "Branch":
        """Return it without what it was sent, which may be what the database cannot store."""
        return replace(self, payload=None, memo=None)

    def vote(self) -> Vote:
        """Return the recorded answer to its prepare, the same however often it is asked."""
        if self.state is not State.ABORTED:
            return Vote(transaction_id=self.transaction_id, prepared=True, facts=dict(self.facts))
        return Vote(
            transaction_id=self.transaction_id,
            prepared=False,
            reason=self.reason or "aborted",
            detail=self.detail or "the transaction was aborted before it was prepared",
            contended=self.contended,
            facts=dict(self.facts),
        )


class BranchStore(Protocol[C]):
    """What the participant asks of its storage; ``C`` is an open local transaction."""

    @contextmanager
    def begin(self, *, forced: bool, hurried: bool = False) -> Iterator[C]:
        """Open a local transaction, committed on leaving and durable by then if ``forced``.

        If ``hurried``, wait for no row. Raises Collision (Locked is one), Poison or Unavailable,
        and nothing was written.
        """

    def find(self, connection: C, ids: Sequence[TransactionId]) -> dict[TransactionId, Branch]:
        """Lock and return the branches that exist among ``ids``, in the order of their ids."""

    def settle(
        self, connection: C, ids: Sequence[TransactionId], state: State
    ) -> list[TransactionId]:
        """Move what is prepared among ``ids`` to ``state``; return which those were."""

    def add(
        self, connection: C, branches: Sequence[Branch], *, forced: bool, log_counter: int
    ) -> Counters:
        """Insert branches, count a ``forced`` transaction, keep ``log_counter`` if it is higher.

        Return the counters. It comes last, because every round wants what it locks; and it writes
        even without branches, so that all that a forced transaction has read is durable.
        """

    def counters(self) -> Counters:
        """Return the counters as they are."""

    def raise_to(self, counter: int) -> Counters:
        """Bring the counter to ``counter`` at least, durably: a reconciliation ends so."""

    def in_doubt(
        self, older_than_seconds: float, limit: int, after: TransactionId = BEFORE_ALL
    ) -> list[InDoubt]:
        """Return up to ``limit`` branches in doubt for so long, by id, from behind ``after``."""


def branch_of(prepare: Prepare, generation: int, verdict: Taken | Refused) -> Branch:
    """Return the branch that a verdict on a prepare leaves, so that its vote can be repeated."""
    branch = Branch(
        prepare.transaction_id,
        State.PREPARED,
        generation,
        to_json(prepare.payload).decode(),
        verdict.facts,
        memo=None if prepare.memo is None else to_json(prepare.memo).decode(),
    )
    if isinstance(verdict, Taken):
        return branch
    why, detail, contended = verdict.reason, verdict.detail, verdict.contended
    return replace(branch, state=State.ABORTED, reason=why, detail=detail, contended=contended)
