"""Numbers with a point, ids in other spellings, parameters that stand twice, and the spacing of what is answered."""

import uuid

import httpx
import pytest

from answers import assert_json, assert_problem
from given import Given
from running_shop import Shop


@pytest.mark.parametrize("written", ["2.0", "20e-1", "2e0", "0.2e1", "2.000", "-0.0"])
def test_a_whole_number_may_be_written_with_a_point(client: httpx.Client, written: str) -> None:
    """JSON knows one kind of number: 2.0 is the integer 2, in every body."""
    value = 0 if written == "-0.0" else 2
    json_ = {"Content-Type": "application/json"}

    user = client.post(
        "/payment/users", content=f'{{"name":"Ivan","balance":{written}}}', headers=json_
    )

    assert assert_json(user, 201)["balance"] == value
    assert f'"balance":{value},' in user.text


def test_an_order_with_floats_is_the_order_with_integers(
    client: httpx.Client, given: Given
) -> None:
    """The same key means the same order, however its numbers are written."""
    order, key = given.order_body(), str(uuid.uuid4())
    (item,) = order["items"]
    user_id, slot_id = order["user_id"], order["slot_id"]
    items = f'[{{"product_id":{item["product_id"]}e0,"quantity":1.0}}]'
    text = f'{{"user_id":{user_id}.0,"items":{items},"slot_id":{slot_id}.0}}'
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}

    first = client.post("/orders", content=text, headers=headers)

    assert assert_json(first, 201)["items"] == [{**item, "price": 10}]
    assert (
        client.post("/orders", json=order, headers={"Idempotency-Key": key}).json() == first.json()
    )


def test_order_id_is_taken_in_its_canonical_form_alone(client: httpx.Client, given: Given) -> None:
    """Other spellings of a UUID are other texts; only the case of letters does not matter."""
    order_id = client.post("/orders", json=given.order_body()).json()["order_id"]

    for other in (
        f"urn:uuid:{order_id}",
        f"{{{order_id}}}",
        order_id.replace("-", ""),
        f"{order_id}%0A",
        f"{order_id[:-1]}g",
    ):
        problem = assert_problem(client.get(f"/orders/{other}"), 422, "invalid")
        assert [error["field"] for error in problem["errors"]] == ["order_id"]
    assert assert_json(client.get(f"/orders/{order_id.upper()}"), 200)["order_id"] == order_id


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/orders?limit=1&limit=1", "limit"),
        ("/orders?user_id=1&limit=2&user_id=2", "user_id"),
        ("/payment/users?name=a&name=b", "name"),
        ("/stock/products?cursor=&cursor=", "cursor"),
        ("/delivery/slots?limit=1&%6Cimit=2", "limit"),
        ("/payment/users/1/statement?limit=1&limit=2", "limit"),
    ],
)
def test_parameter_that_stands_twice_is_refused_by_name(
    client: httpx.Client, path: str, field: str
) -> None:
    """Neither the first nor the last is meant."""
    problem = assert_problem(client.get(path), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == [field]


def test_internal_parameter_that_stands_twice_is_refused(shop: Shop) -> None:
    """One rule on both ports."""
    answer = httpx.get(
        f"{shop.services()['payment']['internal']}/two-phase/v1/branches?limit=1&limit=2"
    )

    assert_problem(answer, 422, "invalid")


@pytest.mark.parametrize(
    "path",
    [
        "/orders",
        "/payment/users",
        "/stock/products",
        "/delivery/slots",
        "/nothing",
        "/health/ready",
    ],
)
def test_json_is_written_alike_everywhere(client: httpx.Client, path: str) -> None:
    """No spaces between values: in answers, in problems, on the fast path and beside it."""
    for answer in (
        client.get(path),
        client.post(path, json={}),
        client.post(path, content=b"{"),
        client.delete(path),
    ):
        text = answer.text.replace(": must", ":must")
        assert '": ' not in text
        assert ', "' not in text
