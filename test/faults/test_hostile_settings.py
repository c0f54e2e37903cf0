"""A shop on a database whose settings are against it.

What customers are told and what is written stays what it was.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Connection, text

from faults.crashing import Crashing, crashing_shop, pid_of, until
from hostile_settings import AGAINST_US, ANOTHER_ACCESS_METHOD, assigned
from laws import broken_laws
from running_shop import Shop


@pytest.fixture(scope="module")
def hostile(start_shop: Callable[..., Shop]) -> Iterator[Crashing]:
    """Return a shop whose database has every setting against it, with processes that began there."""
    with crashing_shop(start_shop()) as shop:
        with shop.admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(ANOTHER_ACCESS_METHOD))
            for name, value in _known(connection).items():
                connection.execute(text(f"ALTER DATABASE shop SET {assigned(name, value)}"))
        for process in shop.shop.services():
            _restart(shop, process)
        shop.rest()
        yield shop
    shop.shop.stop()


def _known(connection: Connection) -> dict[str, str]:
    return {
        name: value
        for name, value in AGAINST_US.items()
        if connection.scalar(text("SELECT current_setting(:name, true)"), {"name": name})
        is not None
    }


def _restart(shop: Crashing, process: str) -> None:
    pid = shop.shop.pid(process)
    os.kill(pid, signal.SIGTERM)
    until(lambda: pid_of(shop.shop, process) not in (None, pid), f"{process} was not started again")


def _order(shop: Crashing, **given: int) -> tuple[dict[str, object], httpx.Response]:
    body = shop.given.order_body(**given)
    return body, shop.client.post("/orders", json=body, headers={"Idempotency-Key": str(uuid4())})


def test_orders_are_confirmed_and_refused_as_ever(hostile: Crashing) -> None:
    """All three take, or none does; the same key gets the same answer."""
    body, confirmed = _order(hostile)
    poor, refused = _order(hostile, balance=0)

    assert (confirmed.status_code, refused.status_code) == (201, 409), (
        confirmed.text,
        refused.text,
    )
    user, slot, product = hostile.given.state_of(body)
    assert (user["balance"], slot["booked"], product["quantity"]) == (90, 1, 99)
    user, slot, product = hostile.given.state_of(poor)
    assert (user["balance"], slot["booked"], product["quantity"]) == (0, 0, 100)
    orders = hostile.client.get("/orders", params={"user_id": str(body["user_id"])}).json()["items"]
    assert [each["order_id"] for each in orders] == [confirmed.json()["order_id"]]
    until(lambda: not broken_laws(hostile.admin, at_rest=True), "something stayed in doubt")


@pytest.mark.parametrize("key", [None, "the same each time"])
@pytest.mark.parametrize("what", ["deposits", "restocks"])
def test_what_is_added_is_added_once_for_each_key(
    hostile: Crashing, what: str, key: str | None
) -> None:
    """Without a key each request adds; with one, the first."""
    headers = {"Idempotency-Key": key} if key else {}
    if what == "deposits":
        path, field = f"/payment/users/{hostile.given.user(0)['user_id']}", "amount"
    else:
        path, field = f"/stock/products/{hostile.given.product(10, 0)['product_id']}", "quantity"
    answers = [
        hostile.client.post(f"{path}/{what}", json={field: 7}, headers=headers).status_code
        for _ in range(3)
    ]

    assert answers == [201, 201, 201]
    assert hostile.client.get(path).json()["available"] == (7 if key else 21)


def test_a_hundred_deposits_at_once_all_succeed(hostile: Crashing) -> None:
    """None is undone for the sake of another."""
    path = f"/payment/users/{hostile.given.user(0)['user_id']}"

    def deposit(number: int) -> int:
        headers = {"Idempotency-Key": str(number)}
        return hostile.client.post(
            f"{path}/deposits", json={"amount": 1}, headers=headers
        ).status_code

    with ThreadPoolExecutor(20) as customers:
        answers = list(customers.map(deposit, range(100)))

    assert answers == [201] * 100
    assert hostile.client.get(path).json()["balance"] == 100


def test_statements_show_times_and_pages_as_ever(hostile: Crashing) -> None:
    """Times are in UTC, whatever zone and style the server has.

    A page continues where the last one ended.
    """
    path = f"/payment/users/{hostile.given.user(0)['user_id']}"
    for number in range(3):
        hostile.client.post(f"{path}/deposits", json={"amount": number + 1})

    first = hostile.client.get(f"{path}/statement", params={"limit": 2}).json()
    second = hostile.client.get(
        f"{path}/statement", params={"limit": 2, "cursor": first["next_cursor"]}
    ).json()

    assert [each["amount"] for each in [*first["items"], *second["items"]]] == [3, 2, 1]
    assert all(each["at"].endswith("Z") for each in first["items"])


def test_a_fenced_database_makes_the_shop_not_ready_until_the_fence_is_gone(
    hostile: Crashing,
) -> None:
    """Connections that only read are dropped.

    Nothing is written, nobody is told that it was, and all comes back by itself.
    """
    _fence(hostile, "on")
    try:
        for process, address in _ready_addresses(hostile).items():
            until(lambda address=address: _status(address) == 503, f"{process} did not notice", 10)
        answer = hostile.client.post("/payment/users/1/deposits", json={"amount": 1})
        assert answer.status_code == 503, answer.text
    finally:
        _fence(hostile, "off")

    hostile.rest()
    assert _order(hostile)[1].status_code == 201


def _fence(shop: Crashing, value: str) -> None:
    with shop.admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(f"ALTER SYSTEM SET default_transaction_read_only = {value}"))
        connection.execute(text("SELECT pg_reload_conf()"))


def _ready_addresses(shop: Crashing) -> dict[str, str]:
    prefixes = {"order": "", "payment": "/payment", "stock": "/stock", "delivery": "/delivery"}
    return {
        name: f"{shop.shop.listener(name)}{prefix}/health/ready"
        for name, prefix in prefixes.items()
    }


def _status(address: str) -> int:
    return httpx.get(address, timeout=5).status_code
