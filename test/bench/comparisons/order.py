"""The order that every comparison takes and the answer that it gives.

The same bytes in and out as the shop's own.
"""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

#: What every product of the benchmark costs, so that a comparison needs no price service.
PRICE = 10


class Item(BaseModel):
    """So many of one product."""

    model_config = ConfigDict(strict=True, extra="forbid")

    product_id: int = Field(ge=1)
    quantity: int = Field(ge=1)


class NewOrder(BaseModel):
    """What the load generator sends."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: int = Field(ge=1)
    items: list[Item] = Field(min_length=1, max_length=100)
    slot_id: int = Field(ge=1)


class PricedItem(BaseModel):
    """So many of one product, at a price."""

    product_id: int
    quantity: int
    price: int


class Placed(BaseModel):
    """What the load generator gets."""

    order_id: UUID
    status: str
    user_id: int
    items: list[PricedItem]
    total: int
    slot_id: int
    courier: str


def total_of(order: NewOrder) -> int:
    """Return what the order costs."""
    return sum(PRICE * item.quantity for item in order.items)


def placed(order_id: UUID, order: NewOrder, courier: str = "Olga") -> Placed:
    """Return the answer to a confirmed order."""
    return Placed(
        order_id=order_id,
        status="confirmed",
        user_id=order.user_id,
        items=[
            PricedItem(product_id=item.product_id, quantity=item.quantity, price=PRICE)
            for item in order.items
        ],
        total=total_of(order),
        slot_id=order.slot_id,
        courier=courier,
    )
