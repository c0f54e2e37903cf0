"""What exists: orders, which are the decision log, and the tables that the log keeps for itself.

The order row *is* the decision. It is inserted once and never changed, which a trigger holds; a
transaction without a row is undecided, and stays open until one is inserted.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, Numeric, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from two_phase.coordinator.log_statements import LogStatements
from two_phase.coordinator.log_tables import DecisionColumns, decision_laws, log_tables


class Base(DeclarativeBase):
    """The schema of order_service."""


class Order(DecisionColumns, Base):
    """The decision on one transaction, with the order that it was about (empty where only the id was known).

    A new field of an order is a column here, a migration, and the field in ``order.py``.
    """

    __tablename__ = "orders"
    __table_args__ = (
        *decision_laws("user_id"),
        CheckConstraint(
            "status = 'cancelled' OR (num_nulls(user_id, slot_id, items, total, courier) = 0 AND refusals = '[]')",
            name="confirmed_order_is_complete",
        ),
        CheckConstraint(
            "idempotency_key IS NULL OR status = 'confirmed' OR refusals <> '[]'",
            name="only_final_answers_hold_a_key",
        ),
        Index(
            "orders_by_user",
            "user_id",
            text("transaction_id DESC"),
            postgresql_where=text("user_id IS NOT NULL"),
        ),
        Index(
            "orders_cancelled",
            text("transaction_id DESC"),
            postgresql_where=text("status = 'cancelled' AND user_id IS NOT NULL"),
        ),
    )

    user_id: Mapped[int | None] = mapped_column(BigInteger)
    slot_id: Mapped[int | None] = mapped_column(BigInteger)
    items: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    total: Mapped[Decimal | None] = mapped_column(Numeric)
    courier: Mapped[str | None] = mapped_column(Text)
    refusals: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")


# Claims on keys, the log's generation and counters, and who was restored: the log's alone.
log_tables(Base.metadata, "user_id", BigInteger)

LOG = LogStatements(Order, scope="user_id")
