"""Too many at once: orders past what the queue holds, one order sent fifty times, a poisonous one among good ones, rounds in a race."""

import json
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from faults.crashing import Crashing, until, until_at_rest
from faults.load import Load
from faults.market import Market, assert_sound
from faults.proxied import DEADLINE_SECONDS, PARTICIPANTS, QUEUE_LIMIT, Proxied
from faults.report import Row
from faults.wire_faults import delayed
from laws import broken_laws
from public_laws import broken_public_laws
from shop.operator.services import Services
from two_phase.messages import Prepare, Round, new_transaction_id

EQUAL, NEIGHBOURS = 50, 12
RACES, RACERS, BRANCHES_PER_ROUND = 150, 6, 6
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def test_past_the_limit_of_the_queue_the_answer_is_503_at_once(
    proxied: Proxied, tell: Callable[[Row], None]
) -> None:
    """F17, R13: nobody waits in vain, each 503 says when to come again, and those who are let in are served."""
    market = Market.opened(proxied.given)
    proxied.links["order to payment"].suffer(delayed(0.3))
    early: list[httpx.Response] = []

    with Load(proxied.shop.address, market.bodies, customers=4 * QUEUE_LIMIT) as load:

        def rejected() -> bool:
            answer = proxied.client.post("/orders", json=market.bodies[0])
            early.extend([answer] if "too many orders" in answer.text else [])
            return len(early) >= 5 and load.told.confirmed != {}

        until(rejected, "the queue was never full")
        proxied.heal()

    assert load.told.unclean == []
    assert {answer.status_code for answer in early} == {503}
    assert all(answer.headers["retry-after"] for answer in early)
    # Some found the queue full, and some were not even let in.
    metrics = httpx.get(f"{proxied.shop.services()['order']['internal']}/metrics").text
    assert re.search(r"^http_requests_rejected_total [1-9]", metrics, re.MULTILINE)
    assert min(answer.elapsed.total_seconds() for answer in early) < DEADLINE_SECONDS / 2
    tell(
        assert_sound(
            proxied, load, market, f"{4 * QUEUE_LIMIT} customers at a queue for {QUEUE_LIMIT}"
        )
    )


def test_fifty_equal_requests_at_two_replicas_are_one_order(
    doubled: Crashing, tell: Callable[[Row], None]
) -> None:
    """F19, R11: one order, and the same answer fifty times."""
    doubled.rest()
    market = Market.opened(doubled.given)
    body, key = market.bodies[0], str(uuid4())
    addresses = [f"{doubled.shop.listener(name)}/orders" for name in ("order", "order-2")]

    def insist(number: int) -> httpx.Response:
        answers: list[httpx.Response] = []

        def final() -> bool:
            headers = {"Idempotency-Key": key}
            answers.append(
                httpx.post(addresses[number % 2], json=body, headers=headers, timeout=20)
            )
            return answers[-1].status_code in (201, 409)

        until(final, "no final answer")
        assert {answer.status_code for answer in answers[:-1]} <= {503, 202}
        return answers[-1]

    with ThreadPoolExecutor(EQUAL) as pool:
        answers = list(pool.map(insist, range(EQUAL)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    until_at_rest(doubled.admin)
    assert broken_public_laws(doubled.client, market.opening) == []
    orders = doubled.client.get(
        "/orders", params={"user_id": body["user_id"], "status": "confirmed"}
    ).json()["items"]
    assert len(orders) == 1
    tell(Row(f"{EQUAL} equal requests at two replicas", 1, 1, 0, 0, 0, 0))


@contextmanager
def _poisonous(crashing: Crashing, user_id: int) -> Iterator[None]:
    """Make payment's database refuse any branch of a user, as no check of ours had foreseen."""
    table = "ALTER TABLE payment_service.branches"
    with crashing.admin.begin() as connection:
        connection.execute(
            text(
                f"{table} ADD CONSTRAINT poison CHECK (payload->>'user_id' <> '{user_id}') NOT VALID"
            )
        )
    try:
        yield
    finally:
        with crashing.admin.begin() as connection:
            connection.execute(text(f"{table} DROP CONSTRAINT poison"))


def test_a_poisonous_order_is_refused_and_its_neighbours_are_confirmed(
    proxied: Proxied, tell: Callable[[Row], None]
) -> None:
    """F14, R8: a branch that breaks its round is retried alone, and refused.

    Who was in the same round goes ahead.
    """
    market = Market.opened(proxied.given)
    victim = {**market.bodies[0], "user_id": proxied.given.user()["user_id"]}
    neighbours = market.bodies[:4] * (NEIGHBOURS // 4)
    proxied.client.post("/orders", json={**victim, "user_id": proxied.given.user(0)["user_id"]})
    # Slow enough for what is sent at once to travel together.
    proxied.links["order to stock"].suffer(delayed(0.1))

    with _poisonous(proxied, victim["user_id"]), ThreadPoolExecutor(NEIGHBOURS + 1) as pool:
        # Whoever comes first may leave alone, and so may those who come with him; the one in the
        # middle has company.
        bodies = [*neighbours[: NEIGHBOURS // 2], victim, *neighbours[NEIGHBOURS // 2 :]]
        answers = list(pool.map(lambda body: proxied.client.post("/orders", json=body), bodies))
    victims, others = answers.pop(NEIGHBOURS // 2), answers

    assert (victims.status_code, victims.json()["refusals"][0]["reason"]) == (
        409,
        "not_accepted",
    ), victims.text
    assert {answer.status_code for answer in others} == {201}
    broken = re.findall(
        r"piece by piece.*prepares=(\d+)", (proxied.shop.data / "logs" / "payment.log").read_text()
    )
    assert max(map(int, broken)) > 1
    proxied.heal()
    until_at_rest(proxied.admin)
    assert broken_public_laws(proxied.client, market.opening) == []
    tell(Row("a poisonous branch in the round", NEIGHBOURS + 1, NEIGHBOURS, 1, 0, 0, 0))


def _payloads(crashing: Crashing, name: str) -> list[dict[str, Any]]:
    """Return what branches of a participant may ask for, all of it wanted by all, and locked in another order each time."""
    given = crashing.given
    if name == "payment":
        return [{"user_id": given.user(1_000_000)["user_id"], "amount": 1} for _ in range(3)]
    if name == "delivery":
        return [{"slot_id": given.slot(500)["slot_id"]} for _ in range(3)]
    items = [
        {"product_id": given.product()["product_id"], "quantity": 1, "price": 10} for _ in range(3)
    ]
    return [{"items": random.sample(items, 3)} for _ in range(6)]


def _replicas(crashing: Crashing, name: str) -> list[Services]:
    """Return the two replicas of a participant, as a coordinator reaches them."""
    secrets = json.loads((crashing.shop.data / "secrets.json").read_text())
    keys = {each: secrets[f"{each}_key"] for each in PARTICIPANTS}
    running = crashing.shop.services()
    return [Services({name: running[replica]["internal"]}, keys) for replica in (name, f"{name}-2")]


def _deadlocks(crashing: Crashing) -> int:
    with crashing.admin.connect() as connection:
        return int(connection.execute(text(_DEADLOCKS)).scalar_one())


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTICIPANTS)
def test_rounds_that_race_at_two_replicas_end_without_a_deadlock(
    doubled: Crashing, tell: Callable[[Row], None], name: str
) -> None:
    """F24, R9: prepares and aborts of the same branches, at once and in any order.

    Each round gets its ballot.
    """
    doubled.rest()
    payloads, before = _payloads(doubled, name), _deadlocks(doubled)

    def race(number: int) -> None:
        ids = [new_transaction_id() for _ in range(BRANCHES_PER_ROUND)]
        prepares = [Prepare(transaction_id=each, payload=random.choice(payloads)) for each in ids]
        rounds = [
            Round(generation=1, prepares=prepares),
            Round(generation=1, aborts=random.sample(ids, len(ids))),
        ]
        with ThreadPoolExecutor(2) as pair:
            ballots = list(
                pair.map(
                    lambda which: replicas[(number + which) % 2].round(name, rounds[which]), (0, 1)
                )
            )
        assert len(ballots[0].votes) == len(ballots[1].acknowledged) == BRANCHES_PER_ROUND
        assert ballots[0].violations == ballots[1].violations == []

    with ExitStack() as stack, ThreadPoolExecutor(RACERS) as pool:
        replicas = [stack.enter_context(each) for each in _replicas(doubled, name)]
        list(pool.map(race, range(RACES)))

    assert broken_laws(doubled.admin, at_rest=True) == []
    offered, deadlocks = RACES * BRANCHES_PER_ROUND, _deadlocks(doubled) - before
    tell(
        Row(
            f"{2 * RACES} rounds race at {name}, {deadlocks} deadlocks retried",
            offered,
            0,
            offered,
            0,
            0,
            0,
        )
    )
