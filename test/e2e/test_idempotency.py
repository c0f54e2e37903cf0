"""Idempotency-Key: the same request gets the first final answer again, and takes effect once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from answers import assert_json, assert_problem
from given import Given
from running_shop import Shop

RACERS = 8


def placed(client: httpx.Client, order: dict[str, Any], key: str) -> httpx.Response:
    """Place ``order`` with ``key``."""
    return client.post("/orders", json=order, headers={"Idempotency-Key": key})


def assert_same(first: httpx.Response, second: httpx.Response) -> None:
    """Check that two answers are one and the same."""
    assert (second.status_code, second.json()) == (first.status_code, first.json())
    for header in ("content-type", "location"):
        assert second.headers.get(header) == first.headers.get(header)


def test_confirmed_order_is_answered_again_and_paid_once(
    client: httpx.Client, given: Given
) -> None:
    """A client that lost the answer may ask again: 201, the same order, one payment."""
    order, key = given.order_body(balance=100, price=10), str(uuid.uuid4())

    first, second = placed(client, order, key), placed(client, order, key)

    assert_json(first, 201)
    assert_same(first, second)
    user, slot, product = given.state_of(order)
    assert (user["balance"], slot["booked"], product["quantity"]) == (90, 1, 99)


def test_refused_order_is_answered_again_even_when_it_would_be_taken_by_now(
    client: httpx.Client, given: Given
) -> None:
    """A refusal is final: it holds the key, whatever has changed since."""
    order, key = given.order_body(balance=5, price=10), str(uuid.uuid4())
    first = placed(client, order, key)
    assert (
        client.post(f"/payment/users/{order['user_id']}/deposits", json={"amount": 100}).status_code
        == 201
    )

    second = placed(client, order, key)

    assert_problem(first, 409, "insufficient_funds")
    assert_same(first, second)
    assert given.state_of(order)[0]["balance"] == 105


def test_order_is_another_one_without_a_key_or_with_another(
    client: httpx.Client, given: Given
) -> None:
    """Only the key makes two requests one."""
    order = given.order_body(balance=100, couriers=3)

    answers = [
        placed(client, order, str(uuid.uuid4())),
        placed(client, order, str(uuid.uuid4())),
        client.post("/orders", json=order),
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["order_id"] for answer in answers}) == 3


def test_key_used_for_another_order_is_refused(client: httpx.Client, given: Given) -> None:
    """The same key with another body is a mistake: 422, and nothing is bought."""
    order, key = given.order_body(), str(uuid.uuid4())
    first = placed(client, order, key)
    other = order | {"items": [order["items"][0] | {"quantity": 2}]}
    before = given.state_of(order)

    problem = assert_problem(placed(client, other, key), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]
    assert given.state_of(order) == before
    assert_same(first, placed(client, order, key))


def test_keys_of_different_users_do_not_meet(client: httpx.Client, given: Given) -> None:
    """Keys are scoped to the user of the body: nobody can learn or spoil another's."""
    key = str(uuid.uuid4())
    mine, theirs = given.order_body(), given.order_body()

    first, second = placed(client, mine, key), placed(client, theirs, key)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["order_id"] != second.json()["order_id"]


def test_longest_key_is_accepted(client: httpx.Client, given: Given) -> None:
    """255 characters are allowed."""
    order, key = given.order_body(), "k" * 255

    first, second = placed(client, order, key), placed(client, order, key)

    assert_json(first, 201)
    assert_same(first, second)


def test_racing_orders_with_one_key_are_one_order(shop: Shop, given: Given) -> None:
    """Two that race do not both buy: all get the answer of the first."""
    order, key = given.order_body(balance=1000, couriers=100), str(uuid.uuid4())

    with (
        httpx.Client(base_url=f"http://{shop.address}", timeout=10) as client,
        ThreadPoolExecutor(RACERS) as pool,
    ):
        answers = list(pool.map(lambda _: placed(client, order, key), range(RACERS)))

    assert_json(answers[0], 201)
    for answer in answers:
        assert_same(answers[0], answer)
    user, slot, product = given.state_of(order)
    assert (user["balance"], slot["booked"], product["quantity"]) == (990, 1, 99)


ADDITIONS = ["deposits", "restocks"]


@pytest.fixture
def addition(given: Given, kind: str) -> tuple[str, str, str]:
    """Return the path of what is added to, and the names of what is added and of what it is added to."""
    if kind == "deposits":
        return f"/payment/users/{given.user(0)['user_id']}", "amount", "balance"
    return f"/stock/products/{given.product(quantity=0)['product_id']}", "quantity", "quantity"


@pytest.mark.parametrize("kind", ADDITIONS)
def test_addition_is_answered_again_and_added_once(
    client: httpx.Client, kind: str, addition: tuple[str, str, str]
) -> None:
    """A deposit or a restock that is sent again gets the first answer, as it was then.

    Others come on top.
    """
    path, name, total = addition
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    first = client.post(f"{path}/{kind}", json={name: 5}, headers=headers)
    on_top = client.post(f"{path}/{kind}", json={name: 1})
    second = client.post(f"{path}/{kind}", json={name: 5}, headers=headers)

    assert assert_json(first, 201)[total] == 5
    assert assert_json(on_top, 201)[total] == 6
    assert_same(first, second)
    assert client.get(path).json()[total] == 6


@pytest.mark.parametrize("kind", ADDITIONS)
def test_key_used_for_another_addition_is_refused(
    client: httpx.Client, kind: str, addition: tuple[str, str, str]
) -> None:
    """The same key with another amount is a mistake: 422, and nothing is added."""
    path, name, total = addition
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    client.post(f"{path}/{kind}", json={name: 5}, headers=headers)

    problem = assert_problem(
        client.post(f"{path}/{kind}", json={name: 6}, headers=headers), 422, "invalid"
    )

    assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]
    assert client.get(path).json()[total] == 5


@pytest.mark.parametrize("kind", ADDITIONS)
def test_racing_additions_with_one_key_are_one(
    shop: Shop, kind: str, addition: tuple[str, str, str]
) -> None:
    """Two that race do not both add."""
    path, name, total = addition
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    with (
        httpx.Client(base_url=f"http://{shop.address}", timeout=10) as client,
        ThreadPoolExecutor(RACERS) as pool,
    ):
        answers = list(
            pool.map(
                lambda _: client.post(f"{path}/{kind}", json={name: 5}, headers=headers),
                range(RACERS),
            )
        )

        assert_json(answers[0], 201)
        for answer in answers:
            assert_same(answers[0], answer)
        assert client.get(path).json()[total] == 5
