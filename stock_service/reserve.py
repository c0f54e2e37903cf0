"""What stock does for an order.

Takes its products at the price the customer is asked for, and gives them back if need be.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from two_phase.errors import Refused
from two_phase.messages import Taken, TransactionId
from two_phase.sql import Planned, bigint_array


class Item(BaseModel):
    """So many of one product, at the price that order_service knows; None if it knows none."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    product_id: int
    quantity: int = Field(ge=1)
    price: int | None


class Reservation(BaseModel):
    """The products of one order, each named once."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    items: list[Item] = Field(min_length=1, max_length=100)


class _Product(NamedTuple):
    price: int
    available: int


_LOCK = Planned("""
    SELECT product_id, price, available FROM products
    WHERE product_id = ANY (CAST(:ids AS bigint[])) ORDER BY product_id FOR UPDATE
""")
_MOVE = Planned("""
    UPDATE products SET available = available - moved.quantity
    FROM unnest(CAST(:ids AS bigint[]), CAST(:quantities AS bigint[])) AS moved (product_id, quantity)
    WHERE products.product_id = moved.product_id
""")
_RESERVED = text("""
    SELECT CAST(item->>'product_id' AS bigint) AS product_id, sum(CAST(item->>'quantity' AS bigint)) AS reserved
    FROM branches, jsonb_array_elements(payload->'items') AS item
    WHERE state = 'prepared' AND CAST(item->>'product_id' AS bigint) = ANY (CAST(:ids AS bigint[]))
    GROUP BY 1
""")


def take(
    connection: Connection, asked: Sequence[tuple[TransactionId, Reservation]]
) -> list[Taken | Refused]:
    """Take each order's products in the order of arrival.

    One that does not fit does not block a smaller one behind it.
    """
    products = _locked(
        connection, {item.product_id for _, reservation in asked for item in reservation.items}
    )
    taken: Counter[int] = Counter()
    verdicts: list[Taken | Refused] = []
    for _, reservation in asked:
        refusal = _refusal(reservation, products, taken)
        if refusal is None:
            for item in reservation.items:
                taken[item.product_id] += item.quantity
        verdicts.append(refusal or Taken())
    _move(connection, taken)
    _mark_contended(connection, asked, verdicts, products)
    return verdicts


def give_back(connection: Connection, taken: Sequence[tuple[TransactionId, Reservation]]) -> None:
    """Put each order's products back."""
    quantities: Counter[int] = Counter()
    for _, reservation in taken:
        quantities.subtract({item.product_id: item.quantity for item in reservation.items})
    _locked(connection, set(quantities))
    _move(connection, quantities)


def reserved(connection: Connection, product_ids: set[int]) -> dict[int, int]:
    """Return how much of each product undecided orders hold, where they hold any."""
    rows = connection.execute(_RESERVED, {"ids": bigint_array(product_ids)})
    return {row.product_id: int(row.reserved) for row in rows}


def _locked(connection: Connection, product_ids: set[int]) -> dict[int, _Product]:
    rows = _LOCK.rows(connection, {"ids": bigint_array(product_ids)})
    return {product_id: _Product(price, available) for product_id, price, available in rows}


def _refusal(
    reservation: Reservation, products: Mapping[int, _Product], taken: Counter[int]
) -> Refused | None:
    unknown = [item.product_id for item in reservation.items if item.product_id not in products]
    if unknown:
        return Refused("unknown_product", f"there is no product {', '.join(map(str, unknown))}")
    prices = {item.product_id: products[item.product_id].price for item in reservation.items}
    if any(item.price != prices[item.product_id] for item in reservation.items):
        return Refused(
            "price_changed",
            "the price is another by now",
            facts={"prices": {str(key): price for key, price in prices.items()}},
        )
    short = [
        item.product_id
        for item in reservation.items
        if item.quantity > products[item.product_id].available - taken[item.product_id]
    ]
    if short:
        return Refused(
            "out_of_stock", f"there is not enough of product {', '.join(map(str, short))}"
        )
    return None


def _move(connection: Connection, quantities: Counter[int]) -> None:
    moved = {product_id: quantity for product_id, quantity in quantities.items() if quantity}
    if moved:
        _MOVE.rows(
            connection, {"ids": bigint_array(moved), "quantities": bigint_array(moved.values())}
        )


def _mark_contended(
    connection: Connection,
    asked: Sequence[tuple[TransactionId, Reservation]],
    verdicts: Sequence[Taken | Refused],
    products: Mapping[int, _Product],
) -> None:
    """Say of each refusal whether the goods are there and only undecided orders hold them (R9)."""
    short = [
        (reservation, verdict)
        for (_, reservation), verdict in zip(asked, verdicts, strict=True)
        if isinstance(verdict, Refused) and verdict.reason == "out_of_stock"
    ]
    if not short:
        return
    before = reserved(
        connection, {item.product_id for reservation, _ in short for item in reservation.items}
    )
    for reservation, refusal in short:
        refusal.contended = all(
            item.quantity <= products[item.product_id].available + before.get(item.product_id, 0)
            for item in reservation.items
        )
