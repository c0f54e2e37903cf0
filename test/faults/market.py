"""What customers order from while something fails, and the oracles that judge what became of it all."""

import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, text

from faults.crashing import Crashing, until_at_rest
from faults.load import Load
from faults.report import Row
from given import Given
from laws import broken_laws
from public_laws import Opening, broken_public_laws

RESOLVED_SECONDS = 20
RICH, POOR, QUANTITY, COURIERS = 10_000_000, 5, 1_000_000, 1000

_ANSWERS = """
    SELECT idempotency_key, transaction_id::text, status FROM order_service.orders WHERE idempotency_key IS NOT NULL
"""


@dataclass(frozen=True)
class Market:
    """A product that all orders want, slots with couriers enough, and users of whom the last has too little money."""

    opening: Opening
    bodies: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def opened(cls, given: Given, *, slots: int = 4, after_seconds: float = 86_400) -> "Market":
        """Open a new one."""
        products = {given.product(quantity=QUANTITY)["product_id"]: QUANTITY}
        opened = {
            given.slot(COURIERS, after_seconds=after_seconds)["slot_id"]: COURIERS
            for _ in range(slots)
        }
        users = {given.user(balance)["user_id"]: balance for balance in (RICH, RICH, POOR)}
        items = [{"product_id": product, "quantity": 1} for product in products]
        bodies = [
            {"user_id": user, "items": items, "slot_id": slot} for user in users for slot in opened
        ]
        return cls(Opening(users, products, opened), bodies)


def assert_sound(
    crashing: Crashing,
    load: Load,
    market: Market,
    fault: str,
    *,
    seconds: float = RESOLVED_SECONDS,
    back: float | None = None,
) -> Row:
    """Hold all laws at rest, in the schemas and in public, and what customers were told.

    Return the line of the table.

    ``back`` is when everything worked again, if that was not just now.
    """
    back = back or time.monotonic()
    until_at_rest(crashing.admin, seconds)
    resolved_seconds = time.monotonic() - back
    told = load.told
    violations = [
        *wrongly_told(crashing.admin, load),
        *broken_laws(crashing.admin, at_rest=True),
        *broken_public_laws(crashing.client, market.opening),
    ]
    unknown = sum("no final answer" in line for line in told.unclean)
    confirmed, refused = len(told.confirmed), len(told.refused)

    assert violations == []
    assert confirmed
    offered = confirmed + refused + unknown
    return Row(fault, offered, confirmed, refused, unknown, resolved_seconds, len(violations))


def wrongly_told(admin: Engine, load: Load) -> list[str]:
    """Return the keys whose customers were told something else than what the log says."""
    with admin.connect() as connection:
        answers = {row[0]: (row[1], row[2]) for row in connection.execute(text(_ANSWERS))}
    told = load.told
    wrong = [
        key
        for key, order_id in told.confirmed.items()
        if answers.get(key) != (order_id, "confirmed")
    ]
    return wrong + [key for key in told.refused if answers.get(key, ("", ""))[1] != "cancelled"]
