"""What exists: the coordinator's trips, and what each participant owns."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from two_phase.coordinator.log_statements import LogStatements
from two_phase.coordinator.log_tables import (
    DecisionColumns,
    decision_laws,
    log_tables,
    never_changes,
)


class Coordinator(DeclarativeBase):
    """The coordinator's schema."""


class Trip(DecisionColumns, Coordinator):
    """A decision, with the trip that it was about."""

    __tablename__ = "trips"
    __table_args__ = decision_laws("traveller")

    traveller: Mapped[str | None] = mapped_column(Text)
    wishes: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    refusals: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")


never_changes(Trip.metadata.tables["trips"])
log_tables(Coordinator.metadata, "traveller", Text)
LOG = LogStatements(Trip, scope="traveller")


class Flight(DeclarativeBase):
    """The schema of flight."""


class Plane(Flight):
    """Seats that are left on a flight."""

    __tablename__ = "planes"
    __table_args__ = (CheckConstraint("seats >= 0", name="plane_not_overbooked"),)

    number: Mapped[str] = mapped_column(Text, primary_key=True)
    seats: Mapped[int] = mapped_column(BigInteger)


class Hotel(DeclarativeBase):
    """The schema of hotel."""


class Night(Hotel):
    """Beds that are left in a night."""

    __tablename__ = "nights"
    __table_args__ = (CheckConstraint("beds >= 0", name="night_not_overbooked"),)

    day: Mapped[str] = mapped_column(Text, primary_key=True)
    beds: Mapped[int] = mapped_column(BigInteger)


class Car(DeclarativeBase):
    """The schema of car."""


class Vehicle(Car):
    """A car, and the transaction that has it."""

    __tablename__ = "vehicles"

    plate: Mapped[str] = mapped_column(Text, primary_key=True)
    taken_by: Mapped[str | None] = mapped_column(Text)
