"""Whatever is prepared and decided, in whatever order and by how many: nothing is lost, and votes are greedy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from integration.trades import balance_of, opened, payment, prepares, yes
from laws import broken_laws
from stock_service import products, reserve
from stock_service.schemas import NewProduct
from two_phase.messages import Round
from two_phase.participant.participant import Participant
from two_phase.participant.sql_branches import SqlBranchStore


@dataclass(frozen=True)
class Kind:
    """One participant, with something that orders compete for.

    ``fresh`` makes it and returns a payload for an amount.
    """

    engine: str
    build: Callable[[Engine], Participant[Connection, Any]]
    fresh: Callable[[Engine, int], Callable[[int], dict[str, Any]]]


def _account(engine: Engine, units: int) -> Callable[[int], dict[str, Any]]:
    user_id = opened(engine, units)
    return lambda amount: {"user_id": user_id, "amount": amount}


def _product(engine: Engine, units: int) -> Callable[[int], dict[str, Any]]:
    with engine.begin() as connection:
        product_id = products.add_products(
            connection, [NewProduct(name="apple", price=1, quantity=units)]
        )[0]["product_id"]
    return lambda amount: {"items": [{"product_id": product_id, "quantity": amount, "price": 1}]}


KINDS = {
    "payment": Kind("payment_engine", payment, _account),
    "stock": Kind(
        "stock_engine",
        lambda engine: Participant(
            SqlBranchStore(engine), reserve.Reservation, reserve.take, reserve.give_back
        ),
        _product,
    ),
}


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    units=st.integers(0, 60),
    batches=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=4),
    data=st.data(),
)
def test_votes_are_greedy_and_everything_is_conserved(
    name: str,
    request: pytest.FixtureRequest,
    admin: Engine,
    units: int,
    batches: list[list[int]],
    data: st.DataObject,
) -> None:
    """R9 and L7, against a model of three lines: in order of arrival, what fits is taken."""
    kind = KINDS[name]
    engine: Engine = request.getfixturevalue(kind.engine)
    participant = kind.build(engine)
    payload = kind.fresh(engine, units)
    free, held = units, {}

    for amounts in batches:
        given_up = [each for each in held if data.draw(st.booleans())]
        confirmed = [each for each in held if each not in given_up and data.draw(st.booleans())]
        asked = prepares(*map(payload, amounts))
        ballot = participant.round(
            Round(generation=1, aborts=given_up, commits=confirmed, prepares=asked)
        )
        free += sum(held.pop(each) for each in given_up)
        for each in confirmed:
            held.pop(each)
        for prepare, amount, vote in zip(asked, amounts, yes(ballot), strict=True):
            assert vote == (amount <= free)
            if vote:
                free -= amount
                held[prepare.transaction_id] = amount

    assert not [
        law for law in broken_laws(admin, at_rest=False) if "conserved" in law or "overdrawn" in law
    ]


def test_rounds_of_many_replicas_at_once_end_without_deadlock(payment_engine: Engine) -> None:
    """F24: locks are taken in key order, and a deadlock that happens all the same is retried."""
    from concurrent.futures import ThreadPoolExecutor

    users = [opened(payment_engine, 1000) for _ in range(4)]
    participant = payment(payment_engine)

    def race(seed: int) -> None:
        order = users[seed % 4 :] + users[: seed % 4]
        asked = prepares(*({"user_id": user_id, "amount": 1} for user_id in order))
        participant.round(Round(generation=1, prepares=asked))
        ids = [prepare.transaction_id for prepare in asked]
        participant.round(
            Round(generation=1, aborts=ids, prepares=prepares({"user_id": order[0], "amount": 1}))
        )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(race, range(60)))

    with payment_engine.begin() as connection:
        rows = connection.execute(text("SELECT state, count(*) FROM branches GROUP BY state")).all()
    assert sum(balance_of(payment_engine, user_id)["balance"] for user_id in users) == 4000
    assert {row[0]: row[1] for row in rows}["aborted"] >= 240
