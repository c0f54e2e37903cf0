"""An operator's open transaction keeps one row locked: what does not touch it goes on."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from faults.crashing import Crashing, until
from laws import broken_laws

LOCKED_SECONDS = 5.0
#: Far less than what such a lock costs where rounds wait for it again and again.
READ_SECONDS, ORDER_SECONDS = 2.5, 5.0
ROWS: dict[str, tuple[str, str, Callable[[dict[str, Any]], int]]] = {
    "accounts": ("payment_service.accounts", "user_id", lambda body: int(body["user_id"])),
    "products": (
        "stock_service.products",
        "product_id",
        lambda body: int(body["items"][0]["product_id"]),
    ),
    "slots": ("delivery_service.slots", "slot_id", lambda body: int(body["slot_id"])),
}
PATHS = {"accounts": "/payment/users", "products": "/stock/products", "slots": "/delivery/slots"}
ADDED = {"accounts": ("deposits", {"amount": 1}), "products": ("restocks", {"quantity": 1})}


def _order(crashing: Crashing, body: dict[str, Any]) -> int:
    answer = crashing.client.post("/orders", json=body, headers={"Idempotency-Key": str(uuid4())})
    return answer.status_code


class _Crowd:
    """Customers that ask again and again for as long as the row is locked."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ends = time.monotonic() + LOCKED_SECONDS

    def ask(self, method: str, path: str, body: Any = None) -> list[tuple[int, float]]:
        """Return status and seconds of each answer."""
        seen = []
        with httpx.Client(base_url=f"http://{self._address}", timeout=30) as client:
            while time.monotonic() < self._ends:
                began = time.monotonic()
                status = client.request(method, path, json=body).status_code
                seen.append((status, time.monotonic() - began))
        return seen


@pytest.mark.parametrize("table", ROWS)
def test_a_locked_row_holds_up_what_touches_it_and_nothing_else(
    crashing: Crashing, table: str
) -> None:
    """Orders of others are confirmed and their reads answered in time.

    When the row is free again, it is as it was.
    """
    crashing.rest()
    name, column, identity = ROWS[table]
    victim, *others = [
        crashing.given.order_body(balance=10**6, stock=10**4, couriers=400) for _ in range(3)
    ]
    assert [_order(crashing, each) for each in (victim, *others)] == [201] * 3
    path = f"{PATHS[table]}/{identity(victim)}"

    with crashing.admin.begin() as operator, ThreadPoolExecutor(24) as threads:
        operator.execute(text(f"SELECT FROM {name} WHERE {column} = {identity(victim)} FOR UPDATE"))
        crowd = _Crowd(crashing.shop.address)
        ordered = [threads.submit(crowd.ask, "POST", "/orders", each) for each in others * 2]
        read = [
            threads.submit(crowd.ask, "GET", f"{PATHS[table]}/{identity(each)}") for each in others
        ]
        stuck = [threads.submit(crowd.ask, "POST", "/orders", victim) for _ in range(2)]
        if table in ADDED:
            stuck += [
                threads.submit(crowd.ask, "POST", f"{path}/{ADDED[table][0]}", ADDED[table][1])
                for _ in range(8)
            ]
        confirmed = [each for future in ordered for each in future.result()]
        shown = [each for future in read for each in future.result()]
        refused = {status for future in stuck for status, _ in future.result()}

    assert {status for status, _ in confirmed} == {201}
    assert max(seconds for _, seconds in confirmed) < ORDER_SECONDS
    assert {status for status, _ in shown} == {200}
    assert max(seconds for _, seconds in shown) < READ_SECONDS
    assert refused == {503}
    until(lambda: _order(crashing, victim) == 201, "the row stays as if it were locked")
    until(lambda: not broken_laws(crashing.admin, at_rest=True), "something stayed in doubt")
