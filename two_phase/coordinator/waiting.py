"""Clients that wait for a decision, each no longer than its deadline.

decided in time                          -> Outcome
deadline passed, nothing sent to the log -> NotDecided: it can only be cancelled from now on
deadline passed, the log was asked       -> Pending: only the log can tell
"""

import asyncio
from dataclasses import dataclass

from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.ticket import Outcome, Ticket
from two_phase.coordinator.verdict import Transaction
from two_phase.coordinator.wording import Wording
from two_phase.errors import Unavailable
from two_phase.messages import Decision, TransactionId


class NotDecided(Unavailable):
    """The transaction was not decided in time and is cancelled, or will be.

    The same request may be sent again.
    """

    def __init__(self, detail: str, transaction_id: TransactionId) -> None:
        super().__init__(detail)
        self.transaction_id = transaction_id


@dataclass(frozen=True, slots=True)
class Pending:
    """The decision is with the log, which does not answer; only the log can tell."""

    transaction_id: TransactionId


class Waiting:
    """Has transactions decided; one per process, shared by all requests."""

    def __init__(self, coordinator: Coordinator, wording: Wording = Wording()) -> None:  # noqa: B008 - immutable
        self._coordinator = coordinator
        self._wording = wording
        self._pending: set[TransactionId] = set()

    def is_pending(self, transaction_id: TransactionId) -> bool:
        """Return whether a client was told that it is pending, and no more is known here."""
        return transaction_id in self._pending

    async def decided(self, transaction: Transaction, deadline: float) -> Outcome | Pending:
        """Return what became of ``transaction`` by ``deadline``, of the event loop's clock.

        Raises NotDecided, and Unavailable if it was not begun.
        """
        ticket = self._coordinator.submit(transaction)
        await asyncio.wait([ticket.outcome], timeout=deadline - asyncio.get_running_loop().time())
        if ticket.outcome.done():
            return ticket.outcome.result()
        if ticket.give_up():
            raise NotDecided(self._wording.not_decided, transaction.transaction_id)
        return self._left_pending(ticket)

    def _left_pending(self, ticket: Ticket) -> Pending:
        transaction_id = ticket.transaction.transaction_id
        self._pending.add(transaction_id)
        ticket.outcome.add_done_callback(lambda _outcome: self._pending.discard(transaction_id))
        return Pending(transaction_id)


def key_was_lost(outcome: Outcome | Pending) -> bool:
    """Return whether another transaction has taken the key over, and is decided."""
    return (
        isinstance(outcome, Outcome) and outcome.existed and outcome.decision is Decision.CANCELLED
    )
