"""The laws as anybody can check them.

Through the gateway alone, by what was put in and what the orders say.

For accounts, products and slots that a test has opened itself and shares with nobody. They hold
once nothing is under way.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Opening:
    """What was put in: the balance of each user, the quantity of each product, the couriers of each slot."""

    users: dict[int, int]
    products: dict[int, int]
    slots: dict[int, int]


def broken_public_laws(client: httpx.Client, opening: Opening) -> list[str]:
    """Return a line for each law that does not hold between the orders and what is left of ``opening``."""
    orders = {user_id: _confirmed(client, user_id) for user_id in opening.users}
    everything = [order for each in orders.values() for order in each]
    sold = Counter[int]()
    for order in everything:
        for item in order["items"]:
            sold[item["product_id"]] += item["quantity"]
    booked = Counter(order["slot_id"] for order in everything)
    couriers = Counter((order["slot_id"], order["courier"]) for order in everything)
    return [
        *(
            f"courier {courier} of slot {slot} has {count} orders"
            for (slot, courier), count in couriers.items()
            if count > 1
        ),
        *(
            line
            for user_id in opening.users
            for line in _wrong_account(client, user_id, opening, orders[user_id])
        ),
        *(
            line
            for each in opening.products
            for line in _wrong_product(client, each, opening.products[each] - sold[each])
        ),
        *(
            line
            for slot_id in opening.slots
            for line in _wrong_slot(client, slot_id, booked[slot_id])
        ),
    ]


def _wrong_account(
    client: httpx.Client, user_id: int, opening: Opening, orders: list[dict[str, Any]]
) -> Iterator[str]:
    account = _read(client, f"/payment/users/{user_id}")
    spent = sum(order["total"] for order in orders)
    if (account["balance"], account["held"]) != (opening.users[user_id] - spent, 0):
        yield f"{account} had {opening.users[user_id]} and has ordered for {spent}"
    payments = Counter(
        (entry["order_id"], entry["amount"])
        for entry in _pages(client, f"/payment/users/{user_id}/statement")
    )
    if payments != Counter((order["order_id"], order["total"]) for order in orders):
        yield f"the statement of user {user_id} is not that of his orders"


def _wrong_product(client: httpx.Client, product_id: int, left: int) -> Iterator[str]:
    product = _read(client, f"/stock/products/{product_id}")
    if (product["quantity"], product["reserved"]) != (left, 0):
        yield f"{product} should have {left} left"


def _wrong_slot(client: httpx.Client, slot_id: int, booked: int) -> Iterator[str]:
    slot = _read(client, f"/delivery/slots/{slot_id}")
    if (slot["booked"], slot["held"]) != (booked, 0):
        yield f"{slot} should have {booked} booked"


def _confirmed(client: httpx.Client, user_id: int) -> list[dict[str, Any]]:
    return list(_pages(client, "/orders", user_id=user_id, status="confirmed"))


def _pages(client: httpx.Client, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    cursor: dict[str, str] = {}
    while True:
        page = _read(client, path, limit=100, **query, **cursor)
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _read(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    answer = client.get(path, params=query)
    assert answer.status_code == httpx.codes.OK, answer.text
    return dict(answer.json())
