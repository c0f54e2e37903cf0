"""Verdicts and questions for the tests of the decision log."""

from dataclasses import replace

from order_service.order import OrderRecord
from two_phase.coordinator.verdict import Transaction, Verdict, judge
from two_phase.messages import InDoubt, TransactionId, Vote, new_transaction_id

PARTICIPANTS = ("payment", "stock", "delivery")
RECORD = OrderRecord(1, 1, ({"product_id": 1, "quantity": 2, "price": 10},), may_be_repeated=False)


def verdict(
    *, refused: str | None = None, record: OrderRecord = RECORD, transaction_id: str | None = None
) -> Verdict:
    """Return a verdict on a new transaction.

    Confirmed, or cancelled because payment gave the reason ``refused``.
    """
    transaction = Transaction(
        transaction_id or new_transaction_id(), {name: {} for name in PARTICIPANTS}, (), record
    )
    votes = {
        name: Vote(transaction_id=transaction.transaction_id, prepared=True)
        for name in PARTICIPANTS
    }
    if refused:
        votes["payment"] = votes["payment"].model_copy(
            update={"prepared": False, "reason": refused, "detail": "no"}
        )
    return judge(transaction, votes)


def in_doubt(*ids: TransactionId, generation: int = 1) -> list[InDoubt]:
    """Return the question about ``ids``."""
    return [InDoubt(transaction_id=each, generation=generation) for each in ids]


def a_key(name: str) -> OrderRecord:
    """Return a record with an idempotency key."""
    return replace(RECORD, key=f"{name}-{new_transaction_id()}", digest="d")
