"""What a participant writes down of a transaction, and the contract of the store that keeps it.

A branch is a promise on disk: all that is needed to repeat its vote, to commit it or to give it
back stands in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic_core import to_json

from two_phase.errors import Refused
from two_phase.messages import InDoubt, Prepare, State, Taken, TransactionId, Vote
from two_phase.participant.round_counter import Counters

#: An id below all others, from which a walk over the branches begins.
BEFORE_ALL: TransactionId = "00000000-0000-0000-0000-000000000000"


class Collision(Exception):
    """Somebody else was faster or stood in the way.

    Nothing was written, and the same round may be tried again.
    """


class Locked(Collision):
    """Another session has locked a row for longer than any round does; nothing was written."""


class Poison(Exception):
    """The database refused what one of the branches asked for; nothing was written."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What one participant holds for one transaction.

    ``payload`` and ``memo`` are the JSON texts that it was sent.
    """

    transaction_id: TransactionId
    state: State
    generation: int
    payload: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    detail: str | None = None
    contended: bool = False
    memo: str | None = None

    def vote(self) -> Vote:
        """Return the recorded answer to this branch's prepare.

        The same however often it is asked.
        """
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


C = TypeVar("C")


class BranchStore(Protocol[C]):
    """What the participant asks of its storage; ``C`` is an open local transaction."""

    @contextmanager
    def begin(self, *, forced: bool, hurried: bool = False) -> Iterator[C]:
        """Open a local transaction, committed on leaving and durable by then if ``forced``.

        If ``hurried``, it waits for no row.

        Raises Collision (Locked is one), Poison or Unavailable, and nothing was written.
        """
        ...

    def find(self, connection: C, ids: Sequence[TransactionId]) -> dict[TransactionId, Branch]:
        """Lock and return the branches that exist among ``ids``, in the order of their ids."""
        ...

    def settle(
        self, connection: C, ids: Sequence[TransactionId], state: State
    ) -> list[TransactionId]:
        """Move what is prepared among ``ids`` to ``state``; return which those were."""
        ...

    def add(
        self, connection: C, branches: Sequence[Branch], *, forced: bool, log_counter: int
    ) -> Counters:
        """Insert new branches, count this local transaction if it is ``forced``, and remember how far the log has come.

        Returns the counters. It comes last, because what it locks is wanted by every round; and it
        is a write even without branches, so that all that a forced transaction has read is durable
        when it ends.
        """
        ...

    def counters(self) -> Counters:
        """Return the counters as they are."""
        ...

    def raise_to(self, counter: int) -> Counters:
        """Bring the counter to ``counter`` at least, durably, and return the counters.

        The last step of a reconciliation.
        """
        ...

    def in_doubt(
        self, older_than_seconds: float, limit: int, after: TransactionId = BEFORE_ALL
    ) -> list[InDoubt]:
        """Return up to ``limit`` prepared branches recorded at least so long ago, by id, beginning behind ``after``."""
        ...


def branch_of(prepare: Prepare, generation: int, verdict: Taken | Refused) -> Branch:
    """Return the branch that a verdict on a prepare leaves."""
    if isinstance(verdict, Refused):
        return refusal_of(prepare, generation, verdict)
    payload = to_json(prepare.payload).decode()
    return Branch(
        prepare.transaction_id,
        State.PREPARED,
        generation,
        payload,
        verdict.facts,
        memo=_memo(prepare),
    )


def _memo(prepare: Prepare) -> str | None:
    return None if prepare.memo is None else to_json(prepare.memo).decode()


def refusal_of(prepare: Prepare, generation: int, refusal: Refused) -> Branch:
    """Return the branch that a refusal leaves, so that it can be repeated."""
    return Branch(
        prepare.transaction_id,
        State.ABORTED,
        generation,
        to_json(prepare.payload).decode(),
        refusal.facts,
        refusal.reason,
        refusal.detail,
        refusal.contended,
        _memo(prepare),
    )
