"""Fills the shop's tables for a benchmark: SQL instead of a million requests, with rows such as the services themselves write."""

from dataclasses import dataclass

from comparisons.order import PRICE
from usage import Server

#: The API lets a slot have so many couriers, and the benchmark keeps to it; each order needs one.
COURIERS_PER_SLOT = 1000
#: So much money and so many goods that no run can use them up.
PLENTY = 10**12

_PARTICIPANTS = """
SET session_replication_role = replica; -- no checks of keys that are right by construction
INSERT INTO payment_service.accounts (name, opening, available)
SELECT 'user ' || number, {plenty}, {plenty} FROM generate_series(1, {users}) AS number;
INSERT INTO stock_service.products (name, price, opening, available)
SELECT 'product ' || number, {price}, {plenty}, {plenty} FROM generate_series(1, {products}) AS number;
INSERT INTO delivery_service.slots (starts_at)
SELECT now() + interval '30 days' + number * interval '1 minute' FROM generate_series(1, {slots}) AS number;
INSERT INTO delivery_service.couriers (slot_id, position, name)
SELECT slot_id, position, 'courier ' || position
FROM delivery_service.slots, generate_series(1, {couriers}) AS position ORDER BY slot_id, position;
RESET session_replication_role;
"""
_ANALYZE = "VACUUM ANALYZE"


@dataclass(frozen=True)
class Size:
    """How many rows a shop begins with; ids are 1 to the number."""

    users: int
    products: int
    slots: int


def seed(server: Server, size: Size) -> None:
    """Fill an empty shop's tables."""
    server.run(
        _PARTICIPANTS.format(
            users=size.users,
            products=size.products,
            slots=size.slots,
            couriers=COURIERS_PER_SLOT,
            plenty=PLENTY,
            price=PRICE,
        )
    )
    server.run(_ANALYZE)
