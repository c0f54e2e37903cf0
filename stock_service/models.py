"""What exists: products, restocks, and the branches of the protocol.

A product's ``available`` units go down when a branch is prepared and up when one is aborted. What
is reserved and what was sold stands in the branches alone, so that a commit touches no product:
opening + restocked = available + reserved + sold.
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
    """The schema of stock_service; the table of branches is added by two_phase."""


class Product(Base):
    """Something to buy, its price, and how much of it nobody has taken."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("available >= 0", name="product_not_oversold"),
        CheckConstraint("available <= opening + restocked", name="product_not_multiplied"),
        CheckConstraint("price > 0", name="product_has_a_price"),
        CheckConstraint("opening >= 0 AND restocked >= 0", name="stock_only_grows_by_restocks"),
    )

    product_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    price: Mapped[int] = mapped_column(BigInteger)
    opening: Mapped[int] = mapped_column(BigInteger)
    restocked: Mapped[int] = mapped_column(BigInteger, server_default="0")
    available: Mapped[int] = mapped_column(BigInteger)


class Creation(CreationColumns, Base):
    """The answers to the requests with a key that added products."""


class Restock(Base):
    """Goods that came in later; ``answer`` is what was told, to be told again for the same key."""

    __tablename__ = "restocks"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="restock_adds_something"),
        Index("one_restock_per_key", "product_id", "idempotency_key", unique=True),
    )

    restock_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.product_id"))
    quantity: Mapped[int] = mapped_column(BigInteger)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    answer: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("clock_timestamp()")
    )
