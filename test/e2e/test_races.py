"""Many customers at once for the same scarce thing.

All that there is gets sold, and nothing twice.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from given import Given
from running_shop import Shop

TRIES_MAX = 20


def _until_final(client: httpx.Client, body: dict[str, Any]) -> int:
    """Order until the answer is final: a 503 took nothing, and says to come again."""
    for _ in range(TRIES_MAX):
        answer = client.post("/orders", json=body)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return answer.status_code
    return answer.status_code


def test_two_hundred_orders_race_for_a_hundred_units_and_a_hundred_win(
    shop: Shop, given: Given
) -> None:
    """L5 and L7: exactly as many orders are confirmed as there are units, and the last refusal is out_of_stock."""
    body = given.order_body(balance=10_000, price=10, stock=100, couriers=200)
    limits = httpx.Limits(max_connections=50)

    with (
        httpx.Client(base_url=f"http://{shop.address}", timeout=30, limits=limits) as client,
        ThreadPoolExecutor(50) as pool,
    ):
        answers = Counter(pool.map(lambda _: _until_final(client, body), range(200)))

    assert answers == {201: 100, 409: 100}
    user, slot, product = given.state_of(body)
    assert (user["balance"], user["held"]) == (10_000 - 100 * 10, 0)
    assert (slot["booked"], slot["held"], slot["available"]) == (100, 0, 100)
    assert (product["quantity"], product["reserved"]) == (0, 0)


def test_orders_race_for_the_last_cent_and_none_is_paid_by_money_that_is_not_there(
    shop: Shop, given: Given
) -> None:
    """L5: an account pays for as many orders as it can, and is never overdrawn."""
    body = given.order_body(balance=95, price=10, stock=100, couriers=50)

    with (
        httpx.Client(base_url=f"http://{shop.address}", timeout=30) as client,
        ThreadPoolExecutor(20) as pool,
    ):
        answers = Counter(pool.map(lambda _: _until_final(client, body), range(20)))

    assert answers == {201: 9, 409: 11}
    assert given.state_of(body)[0]["balance"] == 5
