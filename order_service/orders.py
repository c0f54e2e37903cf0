"""Reading the decision log as what it is for customers: their orders."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from two_phase.messages import TransactionId

_COLUMNS = (
    "transaction_id::text AS order_id, status, user_id, items, total, slot_id, courier, refusals"
)
_ONE = text(f"SELECT {_COLUMNS} FROM orders WHERE transaction_id = CAST(:order_id AS uuid)")  # noqa: S608 - a constant

# A JSON column does not keep the order of its members.
_ITEM = ("product_id", "quantity", "price")

Body = dict[str, Any]


def body_of(row: Row[Any]) -> Body:
    """Return an order as its customer sees it; a cancelled one carries its refusals."""
    total = None if row.total is None else int(row.total)
    body = {
        "order_id": row.order_id,
        "status": row.status,
        "user_id": row.user_id,
        "items": [{name: item[name] for name in _ITEM} for item in row.items or []],
        "total": total,
        "slot_id": row.slot_id,
        "courier": row.courier,
    }
    return body if row.status == "confirmed" else body | {"refusals": row.refusals}


def find(connection: Connection, order_id: TransactionId) -> Body | None:
    """Return the recorded order, or None while nothing is recorded."""
    row = connection.execute(_ONE, {"order_id": order_id}).one_or_none()
    return None if row is None else body_of(row)


def newest_first(
    connection: Connection,
    *,
    user_id: int | None,
    status: str | None,
    before: TransactionId | None,
    limit: int,
) -> Sequence[Body]:
    """Return up to ``limit`` orders older than ``before``.

    Ids are UUIDv7, so their order is that of time.
    """
    conditions: Mapping[str, Any] = {
        "user_id = :user_id": user_id,
        "status = :status": status,
        "transaction_id < CAST(:before AS uuid)": before,
    }
    asked = [condition for condition, value in conditions.items() if value is not None]
    where = " AND ".join(["user_id IS NOT NULL", *asked])
    statement = text(
        f"SELECT {_COLUMNS} FROM orders WHERE {where} ORDER BY transaction_id DESC LIMIT :limit"  # noqa: S608 - constants
    )
    parameters = {"user_id": user_id, "status": status, "before": before, "limit": limit}
    used = {name: value for name, value in parameters.items() if value is not None}
    return [body_of(row) for row in connection.execute(statement, used)]
