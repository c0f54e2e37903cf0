"""What order_service takes and answers, as JSON."""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from service_chassis.documents import Problem, optional
from service_chassis.fields import Identifier, Quantity, StrictModel
from service_chassis.paging import Cursor, Page
from two_phase.messages import MAX_INTEGER

ITEMS_MAX = 100
ORDERS = Cursor("order", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = "01a21323-76c1-7835-8de8-84eccdf45daf"


class Item(StrictModel):
    """So many of one product."""

    product_id: Identifier
    quantity: Quantity


class NewOrder(StrictModel):
    """What a customer asks for; the same product twice is summed."""

    user_id: Identifier
    items: list[Item] = Field(min_length=1, max_length=ITEMS_MAX)
    slot_id: Identifier

    @field_validator("items")
    @classmethod
    def _sums_stay_exact(cls, items: list[Item]) -> list[Item]:
        if max(_summed(items).values()) > MAX_INTEGER:
            message = f"the quantity of one product must not be above {MAX_INTEGER}"
            raise ValueError(message)
        return items

    def quantities(self) -> dict[int, int]:
        """Return the quantity of each product, in the order in which they were named first."""
        return _summed(self.items)


def _summed(items: Sequence[Item]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for item in items:
        sums[item.product_id] = sums.get(item.product_id, 0) + item.quantity
    return sums


class OrderQuery(Page):
    """Which orders to list."""

    user_id: Identifier | None = None
    status: Literal["confirmed", "cancelled"] | None = None
    cursor: Annotated[str, ORDERS] | None = None


class OrderItem(BaseModel):
    """So many of one product; a cancelled order may have no price for it."""

    product_id: Identifier = Field(examples=[1])
    quantity: Quantity = Field(examples=[1])
    price: Quantity | None = Field(examples=[10])


class Refusal(BaseModel):
    """Why a participant took nothing.

    `reason` never changes its meaning, `detail` is for people.
    """

    participant: str = Field(examples=["payment"])
    reason: str = Field(pattern="^[a-z_]+$", examples=["insufficient_funds"])
    detail: str | None = Field(examples=["user 1 has less than 200"])


class Order(BaseModel):
    """An order as it was decided. A confirmed one has everything.

    A cancelled one says who refused.
    """

    order_id: UUID = Field(examples=[_ID])
    status: Literal["confirmed", "cancelled"] = Field(examples=["confirmed"])
    user_id: Identifier | None = Field(examples=[1])
    items: list[OrderItem]
    total: Annotated[int, Field(ge=0)] | None = Field(examples=[10])
    slot_id: Identifier | None = Field(examples=[1])
    courier: str | None = Field(examples=["Mila"])
    refusals: list[Refusal] = optional(
        description="Those that were heard; only a cancelled order has them."
    )


class PendingOrder(BaseModel):
    """An order whose decision is not known yet."""

    order_id: UUID = Field(examples=[_ID])
    status: Literal["pending"]


class OrderPage(BaseModel):
    """A page of orders, the newest first."""

    items: list[Order]
    next_cursor: str | None = Field(examples=[f"order-{_ID}"])


class RefusedOrder(Problem):
    """An order that is cancelled because somebody refused: every refusal that was heard."""

    order_id: UUID = Field(examples=[_ID])
    order_status: Literal["cancelled"]
    refusals: list[Refusal] = Field(min_length=1)


class UndecidedOrder(Problem):
    """An order that was not decided in time and is cancelled, or was not begun.

    It may be sent again.
    """

    order_id: UUID = optional(examples=[_ID])
    order_status: Literal["cancelled"] = optional()
