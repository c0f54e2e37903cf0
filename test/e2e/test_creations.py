"""Users, products and slots.

Created once per Idempotency-Key, one at a time or a thousand, all or none; and listed.
"""

import os
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from answers import assert_json, assert_problem
from running_shop import Shop

RACERS = 8
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()


@dataclass(frozen=True)
class Kind:
    """What can be created: where, under which id, from which body, and what another body and a bad field are."""

    service: str
    path: str
    id: str
    body: dict[str, Any]
    other: dict[str, Any]
    bad: tuple[str, Any]

    def thousand(self) -> dict[str, Any]:
        """Return a body of as many as are allowed, each to be told from the others."""
        return {"items": [self.body | self.numbered(number) for number in range(1000)]}

    def numbered(self, number: int) -> dict[str, Any]:
        """Return what makes one of many different."""
        return (
            {"couriers": ["Olga"] * (number % 3)}
            if self.id == "slot_id"
            else {"name": f"number {number}"}
        )


KINDS = [
    Kind(
        "payment",
        "/payment/users",
        "user_id",
        {"name": "Ivan", "balance": 5},
        {"name": "Ivan", "balance": 6},
        ("name", ""),
    ),
    Kind(
        "stock",
        "/stock/products",
        "product_id",
        {"name": "apple", "price": 10, "quantity": 1},
        {"name": "apple", "price": 11, "quantity": 1},
        ("price", 0),
    ),
    Kind(
        "delivery",
        "/delivery/slots",
        "slot_id",
        {"starts_at": TOMORROW, "couriers": ["Olga", "Petr"]},
        {"starts_at": TOMORROW, "couriers": ["Olga"]},
        ("starts_at", "2020-01-01T00:00:00Z"),
    ),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.service for kind in KINDS])


def created(client: httpx.Client, kind: Kind, body: dict[str, Any], key: str) -> httpx.Response:
    """Create with a key."""
    return client.post(kind.path, json=body, headers={"Idempotency-Key": key})


def next_id(client: httpx.Client, kind: Kind) -> int:
    """Return the id of another one, which is higher than all before."""
    return int(assert_json(client.post(kind.path, json=kind.body), 201)[kind.id])


def existing(client: httpx.Client, kind: Kind, first: int, last: int) -> list[int]:
    """Return which ids there are between two of them."""
    page = client.get(
        kind.path, params={"cursor": f"{kind.path.rpartition('/')[2][:-1]}-{first}", "limit": 1000}
    ).json()
    return [item[kind.id] for item in page["items"] if item[kind.id] < last]


@each_kind
def test_the_same_key_creates_once_and_gets_the_first_answer(
    client: httpx.Client, kind: Kind
) -> None:
    """Two accounts, products or slots came of a request that was repeated."""
    key, before = str(uuid.uuid4()), next_id(client, kind)

    answers = [created(client, kind, kind.body, key) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert {answer.headers["location"] for answer in answers} == {
        f"{kind.path}/{answers[0].json()[kind.id]}"
    }
    assert existing(client, kind, before, next_id(client, kind)) == [answers[0].json()[kind.id]]


@each_kind
def test_the_same_key_with_another_body_is_refused(client: httpx.Client, kind: Kind) -> None:
    """One body, or a list of it, is another body too."""
    key = str(uuid.uuid4())
    created(client, kind, kind.body, key)

    for body in (kind.other, {"items": [kind.body]}):
        problem = assert_problem(created(client, kind, body, key), 422, "invalid")
        assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]


def test_what_a_body_leaves_out_is_what_it_would_say(client: httpx.Client) -> None:
    """The same user is meant with the default balance and without one, in any order of fields."""
    key, (kind, *_) = str(uuid.uuid4()), KINDS

    first = created(client, kind, {"name": "Ivan"}, key)

    assert created(client, kind, {"balance": 0, "name": "Ivan"}, key).content == first.content


@each_kind
@pytest.mark.parametrize("many", [False, True])
def test_racing_requests_with_one_key_create_once(
    client: httpx.Client, kind: Kind, *, many: bool
) -> None:
    """Whoever comes second waits for the first one's answer."""
    key, before = str(uuid.uuid4()), next_id(client, kind)
    body = {"items": [kind.body] * 20} if many else kind.body

    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(lambda _: created(client, kind, body, key), range(RACERS)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len(existing(client, kind, before, next_id(client, kind))) == (20 if many else 1)


@each_kind
def test_racing_bodies_with_one_key_leave_one(client: httpx.Client, kind: Kind) -> None:
    """One of two bodies gets the key, and the other is refused."""
    key, before = str(uuid.uuid4()), next_id(client, kind)

    with ThreadPoolExecutor(RACERS) as pool:
        bodies = [kind.body, kind.other] * (RACERS // 2)
        answers = list(pool.map(lambda body: created(client, kind, body, key), bodies))

    assert sorted(answer.status_code for answer in answers) == [201] * (RACERS // 2) + [422] * (
        RACERS // 2
    )
    assert len(existing(client, kind, before, next_id(client, kind))) == 1


def insist(client: httpx.Client, kind: Kind, key: str) -> httpx.Response:
    """Repeat the request with its key until it is answered."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = created(client, kind, kind.body, key)
        if answer.status_code == 201:
            return answer
        assert_problem(answer, 503, "unavailable")
        time.sleep(0.02)
    pytest.fail("there was no answer")


def test_killed_under_creations_leaves_each_key_with_one_and_its_answer(
    client: httpx.Client, shop: Shop
) -> None:
    """The answer is as durable as what it tells of.

    A client that hears nothing repeats itself, and nothing is twice.
    """
    requests = [(kind, str(uuid.uuid4())) for _ in range(60) for kind in KINDS]
    before = [next_id(client, kind) for kind in KINDS]
    early = {kind.id: created(client, kind, kind.body, key) for kind, key in requests[:3]}

    with ThreadPoolExecutor(RACERS) as pool:
        answers = pool.map(lambda request: insist(client, *request), requests)
        time.sleep(0.1)
        for kind in KINDS:
            os.kill(shop.pid(kind.service), signal.SIGKILL)
        bodies = [answer.json() for answer in answers]

    for kind, first in zip(KINDS, before, strict=True):
        mine = [body[kind.id] for body in bodies if kind.id in body]
        assert mine[0] == early[kind.id].json()[kind.id]
        assert existing(client, kind, first, next_id(client, kind)) == sorted(mine)


@each_kind
def test_a_thousand_are_created_at_once_in_their_order(client: httpx.Client, kind: Kind) -> None:
    """All of a list body, each as if it had been created alone; the list shows them on one page."""
    before, body = next_id(client, kind), kind.thousand()

    response = client.post(kind.path, json=body)

    items = assert_json(response, 201)["items"]
    assert "location" not in response.headers
    assert [item[kind.id] for item in items] == sorted({item[kind.id] for item in items})
    for item, asked in zip(items, body["items"], strict=True):
        expected = asked if kind.id != "slot_id" else {"couriers": len(asked["couriers"])}
        assert item.items() >= expected.items()
    assert existing(client, kind, before, items[-1][kind.id] + 1) == [
        item[kind.id] for item in items
    ]


@each_kind
def test_one_bad_item_of_many_creates_none(client: httpx.Client, kind: Kind) -> None:
    """All or none; the item is named."""
    before, (field, value) = next_id(client, kind), kind.bad

    response = client.post(
        kind.path, json={"items": [kind.body, kind.body, kind.body | {field: value}]}
    )

    problem = assert_problem(response, 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == [f"items.2.{field}"]
    assert existing(client, kind, before, next_id(client, kind)) == []


@each_kind
def test_a_list_of_none_or_too_many_is_refused(client: httpx.Client, kind: Kind) -> None:
    """1 to 1,000, and nothing beside them."""
    for body in (
        {"items": []},
        {"items": [kind.body] * 1001},
        {"items": None},
        {"items": kind.body},
    ):
        problem = assert_problem(client.post(kind.path, json=body), 422, "invalid")
        assert [error["field"] for error in problem["errors"]] == ["items"]
    problem = assert_problem(
        client.post(kind.path, json={"items": [kind.body], "colour": "red"}), 422, "invalid"
    )
    assert [error["field"] for error in problem["errors"]] == ["colour"]


def test_users_are_listed_by_the_beginning_of_their_names(client: httpx.Client) -> None:
    """The prefix is taken literally, and pages go on where they ended."""
    mark = f"a%_\\/{uuid.uuid4()}"
    names = [f"{mark} {number}" for number in range(5)] + [mark]
    made = client.post(
        "/payment/users",
        json={"items": [{"name": name, "balance": 1} for name in [*names, mark[1:]]]},
    )
    made_ = made.json()["items"][:-1]

    pages: list[list[dict[str, Any]]] = []
    cursor: str | None = None
    while not pages or cursor:
        query = {"name": mark, "limit": "4"} | ({"cursor": cursor} if cursor else {})
        page = assert_json(client.get("/payment/users", params=query), 200)
        pages.append(page["items"])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == [4, 2]
    assert [item for page in pages for item in page] == made_


@pytest.mark.parametrize("name", ["", "x" * 201, "\x00", "a\nb"])
def test_prefix_that_no_name_has_is_refused(client: httpx.Client, name: str) -> None:
    """What can match nothing is a mistake, not an empty list."""
    problem = assert_problem(client.get("/payment/users", params={"name": name}), 422, "invalid")

    assert [error["field"] for error in problem["errors"]] == ["name"]
