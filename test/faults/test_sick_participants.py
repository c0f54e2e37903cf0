"""F12: one participant is sick or dead, for as long as it likes.

It costs clean 503s, and nothing else.

Not one leaked hold (the others give back while it is still sick), no order that waits past its
deadline, no queue that stands still.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from faults.crashing import Crashing, pid_of, until, until_at_rest
from faults.load import Load
from faults.market import RESOLVED_SECONDS, Market, assert_sound
from faults.proxied import DEADLINE_SECONDS, PARTICIPANTS, Proxied
from faults.report import Row
from faults.wire_faults import SICK, decisions_lost

#: Orders that are offered while it is sick, and what a loaded machine may take on top of a
#: deadline.
OFFERED, SLACK_SECONDS = 4, 2.0
MET, MET_SECONDS = 3, 30
QUICK = {("payment", "too large"), ("delivery", "another transaction's body")}
CASES = [
    pytest.param(
        name, how, marks=[] if (name, how) in QUICK else [pytest.mark.slow], id=f"{name}-{how}"
    )
    for name in PARTICIPANTS
    for how in SICK
]


def _offered_in_turn(crashing: Crashing, market: Market) -> list[httpx.Response]:
    """Order again and again without insisting; each order waits for the one before."""
    bodies = market.bodies[:OFFERED]
    address = "/orders"
    return [
        crashing.client.post(address, json=each, headers={"Idempotency-Key": str(uuid4())})
        for each in bodies
    ]


def _held_elsewhere(crashing: Crashing, sick: str) -> list[Any]:
    others = [name for name in PARTICIPANTS if name != sick]
    query = " UNION ALL ".join(
        f"SELECT '{name}', transaction_id FROM {name}_service.branches WHERE state = 'prepared'"
        for name in others
    )
    with crashing.admin.connect() as connection:
        return list(connection.execute(text(query)))


def _assert_clean(answers: list[httpx.Response], deadline_seconds: float) -> None:
    assert [answer.status_code for answer in answers] == [503] * OFFERED, [
        answer.text for answer in answers
    ]
    assert all(answer.headers["retry-after"] for answer in answers)
    assert all(answer.json()["type"] == "urn:shop:problem:unavailable" for answer in answers)
    assert (
        max(answer.elapsed.total_seconds() for answer in answers) < deadline_seconds + SLACK_SECONDS
    )


def _told(crashing: Crashing, market: Market, answers: list[httpx.Response], fault: str) -> Row:
    """Hold the laws once everybody is well: each order that was offered has cost nothing."""
    back = time.monotonic()
    until_at_rest(crashing.admin, RESOLVED_SECONDS)
    resolved_seconds = time.monotonic() - back
    with Load(crashing.shop.address, market.bodies, customers=1) as load:
        until(lambda: load.told.confirmed != {}, "no order is taken any more")
    row = assert_sound(crashing, load, market, fault)
    return Row(
        fault,
        len(answers) + row.offered,
        row.confirmed,
        row.refused,
        row.unknown,
        resolved_seconds,
        row.violations,
    )


@pytest.mark.parametrize(("name", "how"), CASES)
def test_a_sick_participant_costs_clean_503s_and_no_hold(
    proxied: Proxied, tell: Callable[[Row], None], name: str, how: str
) -> None:
    """R6, R7 and R13: only a positive answer counts, and silence is a no within the deadline."""
    market = Market.opened(proxied.given)
    link = proxied.links[f"order to {name}"]

    link.suffer(SICK[how])
    answers = _offered_in_turn(proxied, market)
    until(
        lambda: _held_elsewhere(proxied, name) == [], f"something stays held while {name} is sick"
    )
    proxied.heal()

    _assert_clean(answers, DEADLINE_SECONDS)
    tell(_told(proxied, market, answers, f"{name} sick: {how}"))


@pytest.mark.parametrize(
    "how",
    [pytest.param(each, marks=[] if each == "dripping" else [pytest.mark.slow]) for each in SICK],
)
def test_a_sick_coordinator_is_asked_until_it_is_well(
    proxied: Proxied, tell: Callable[[Row], None], how: str
) -> None:
    """R2: whatever it answers that is no outcome leaves the branches held, and the next recovery pass asks again."""
    market = Market.opened(proxied.given)
    proxied.links["order to stock"].suffer(decisions_lost)
    link = proxied.links["stock to order"]

    link.suffer(SICK[how])
    with Load(proxied.shop.address, market.bodies) as load:
        until(lambda: link.met >= MET, "stock does not ask again", MET_SECONDS)
        proxied.heal()

    assert load.told.unclean == []
    tell(assert_sound(proxied, load, market, f"coordinator sick: {how}"))


@pytest.mark.parametrize(
    "name",
    [PARTICIPANTS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PARTICIPANTS[1:])],
)
def test_a_dead_participant_costs_clean_503s_and_no_hold(
    crashing: Crashing, tell: Callable[[Row], None], name: str
) -> None:
    """The numbers to reach: 503s within the deadline for as long as it is dead, and not one leaked hold."""
    crashing.rest()
    market = Market.opened(crashing.given)
    pid = crashing.shop.pid(name)
    # Who sleeps starts nobody again.
    os.kill(crashing.shop.process.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        answers = _offered_in_turn(crashing, market)
        until(
            lambda: _held_elsewhere(crashing, name) == [],
            f"something stays held while {name} is dead",
        )
    finally:
        os.kill(crashing.shop.process.pid, signal.SIGCONT)
    until(lambda: pid_of(crashing.shop, name) not in (None, pid), f"{name} was not started again")
    crashing.rest()

    _assert_clean(answers, 5)
    tell(_told(crashing, market, answers, f"{name} dead"))
