"""What exists: orders (the decision log), claims on idempotency keys, the generation of the log, and its counters.

The order row *is* the decision. It is inserted once and never changed, which a trigger holds; a
transaction without a row is undecided, and stays open until somebody inserts one.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Index,
    Numeric,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The schema of order_service."""


class Order(Base):
    """The decision on one transaction, with the order that it was about (empty where only the id was known)."""

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("status IN ('confirmed', 'cancelled')", name="decision_is_known"),
        CheckConstraint(
            "status = 'cancelled' OR (num_nulls(user_id, slot_id, items, total, courier) = 0 AND refusals = '[]')",
            name="confirmed_order_is_complete",
        ),
        CheckConstraint(
            "idempotency_key IS NULL OR status = 'confirmed' OR refusals <> '[]'",
            name="only_final_answers_hold_a_key",
        ),
        CheckConstraint(
            "(idempotency_key IS NULL) = (request_digest IS NULL)", name="key_knows_its_request"
        ),
        Index(
            "one_final_answer_per_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
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

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text)
    generation: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    slot_id: Mapped[int | None] = mapped_column(BigInteger)
    items: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    total: Mapped[Decimal | None] = mapped_column(Numeric)
    courier: Mapped[str | None] = mapped_column(Text)
    refusals: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    request_digest: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("clock_timestamp()")
    )


class Claim(Base):
    """Who is at work on an idempotency key.

    The transaction that may answer it, and the attempts before.
    """

    __tablename__ = "claims"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(Text, primary_key=True)
    transaction_id: Mapped[UUID]
    request_digest: Mapped[str] = mapped_column(Text)
    attempts: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class LogState(Base):
    """The one row that says which generation of the log this is (R12)."""

    __tablename__ = "log_state"
    __table_args__ = (CheckConstraint("only_row", name="log_has_one_state"),)

    only_row: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=text("true"))
    generation: Mapped[int] = mapped_column(BigInteger, server_default="1")


class LogCounter(Base):
    """A part of the log's counter, by which a restored log is noticed, and what it has heard of its participants' (R12)."""

    __tablename__ = "log_counters"
    __table_args__ = (CheckConstraint("slot BETWEEN 0 AND 15", name="counter_has_sixteen_slots"),)

    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    written: Mapped[int] = mapped_column(BigInteger, server_default="0")
    heard: Mapped[dict[str, int]] = mapped_column(JSONB, server_default="{}")


class RestoredParticipant(Base):
    """A participant that was restored from an older backup, and gets no orders until it is reconciled."""

    __tablename__ = "restored_participants"

    participant: Mapped[str] = mapped_column(Text, primary_key=True)
    noticed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("clock_timestamp()")
    )
