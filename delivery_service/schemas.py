"""What delivery_service takes and answers, as JSON."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Discriminator, Field, Tag

from service_chassis.fields import Identifier, Many, Moment, Name, StrictModel, one_or_many
from service_chassis.paging import Cursor, Page
from service_chassis.problems import MANY, ONE

COURIERS_MAX = 1000
SLOTS = Cursor("slot")

_Couriers = Annotated[int, Field(ge=0, le=COURIERS_MAX)]


class NewSlot(StrictModel):
    """A time in the future, and the couriers of that time; each brings one order."""

    starts_at: Moment = Field(
        description="Must be in the future, and has an offset.", examples=["2030-05-01T09:00:00Z"]
    )
    couriers: list[Name] = Field(max_length=COURIERS_MAX, examples=[["Mila", "Oleg"]])


class NewSlots(Many[NewSlot]):
    """Many slots to open: all or none."""


Opening = Annotated[
    Annotated[NewSlot, Tag(ONE)] | Annotated[NewSlots, Tag(MANY)], Discriminator(one_or_many)
]


class SlotQuery(Page):
    """Which part of the list of slots to show."""

    cursor: Annotated[str, SLOTS] | None = None


class Slot(BaseModel):
    """A time slot: its `couriers` are `available`, `held` by undecided orders, or `booked`."""

    slot_id: Identifier = Field(examples=[1])
    starts_at: datetime = Field(examples=["2030-05-01T09:00:00Z"])
    couriers: _Couriers = Field(examples=[2])
    held: _Couriers = Field(examples=[0])
    booked: _Couriers = Field(examples=[1])
    available: _Couriers = Field(examples=[1])


class Slots(BaseModel):
    """Slots that were opened together."""

    items: list[Slot]


class SlotPage(Slots):
    """A page of slots."""

    next_cursor: str | None = Field(examples=["slot-1"])
