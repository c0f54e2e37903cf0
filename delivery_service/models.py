"""What exists: time slots, the couriers of each, and the branches of the protocol.

A courier with a ``transaction_id`` is taken by that transaction: held while its branch is prepared,
booked once it is committed. Taking and giving back write this one column, so that a commit touches
no courier.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, Integer, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service_chassis.creations import CreationColumns


class Base(DeclarativeBase):
    """The schema of delivery_service; the table of branches is added by two_phase."""


class Slot(Base):
    """A time for which couriers can be booked until it starts."""

    __tablename__ = "slots"

    slot_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Creation(CreationColumns, Base):
    """The answers to the requests with a key that opened slots."""


class Courier(Base):
    """Somebody who can bring one order in one slot."""

    __tablename__ = "couriers"
    __table_args__ = (
        Index("courier_brings_one_order", "transaction_id", unique=True),
        Index(
            "couriers_free", "slot_id", "position", postgresql_where=text("transaction_id IS NULL")
        ),
    )

    slot_id: Mapped[int] = mapped_column(ForeignKey("slots.slot_id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    transaction_id: Mapped[UUID | None]
