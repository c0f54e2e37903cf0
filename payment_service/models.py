"""What exists: accounts, deposits, and the branches of the protocol.

An account's ``available`` money goes down when a branch is prepared and up when one is aborted.
What is held and what was spent stands in the branches alone, so that a commit touches no account:
opening + deposited = available + held + spent.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service_chassis.creations import CreationColumns


class Base(DeclarativeBase):
    """The schema of payment_service; the table of branches is added by two_phase."""


class Account(Base):
    """A user's money, in the smallest currency unit."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("available >= 0", name="account_not_overdrawn"),
        CheckConstraint("available <= opening + deposited", name="account_not_enriched"),
        CheckConstraint("opening >= 0 AND deposited >= 0", name="account_takes_no_debt"),
        Index("accounts_by_name", "name", postgresql_ops={"name": "text_pattern_ops"}),
    )

    user_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    opening: Mapped[int] = mapped_column(BigInteger)
    deposited: Mapped[int] = mapped_column(BigInteger, server_default="0")
    available: Mapped[int] = mapped_column(BigInteger)


class Creation(CreationColumns, Base):
    """The answers to the requests with a key that opened accounts."""


class Deposit(Base):
    """Money that came in later; ``answer`` is what the customer was told, to be told again for the same key."""

    __tablename__ = "deposits"
    __table_args__ = (
        CheckConstraint("amount > 0", name="deposit_adds_something"),
        Index("one_deposit_per_key", "user_id", "idempotency_key", unique=True),
        Index("deposits_by_user", "user_id", "at"),
    )

    deposit_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.user_id"))
    amount: Mapped[int] = mapped_column(BigInteger)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    answer: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("clock_timestamp()")
    )
