"""Large numbers, once: ten thousand orders while every process is killed all the time, ten thousand branches left in doubt."""

import itertools
import json
import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from faults.crashing import Crashing, pid_of, until
from faults.load import Load
from faults.market import Market, assert_sound
from faults.proxied import PARTICIPANTS
from faults.report import Row
from shop.operator.services import Services
from two_phase.messages import Prepare, Round, TransactionId, new_transaction_id

REPLICAS = [f"{name}{suffix}" for name in ("order", *PARTICIPANTS) for suffix in ("", "-2")]
PROCESSES = [*REPLICAS, "postgres", "gateway"]
ORDERS, CUSTOMERS, KILL_SECONDS = 10_000, 32, 0.9
#: By default; nothing may be in doubt for longer than twice that, and what a loaded machine needs
#: on top.
IN_DOUBT_SECONDS, SLACK_SECONDS = 5, 10
BRANCHES, ROUND_BRANCHES, LEFT_SECONDS = 9_999, 500, 60

_COURIERS = "SELECT transaction_id::text, name FROM delivery_service.couriers WHERE transaction_id IS NOT NULL"
_DECIDED = """
    INSERT INTO order_service.orders (transaction_id, status, generation, user_id, slot_id, items, total, courier)
    SELECT CAST(id AS uuid), 'confirmed', 1, :user_id, slot_id, CAST(:items AS jsonb), 10, courier
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row (id text, slot_id bigint, courier text)
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_orders_survive_continuous_kills_of_every_process(
    doubled: Crashing, tell: Callable[[Row], None]
) -> None:
    """0 violations, each customer has his final answer, and nothing is in doubt soon after the last dead process is back."""
    doubled.rest()
    market = Market.opened(doubled.given, slots=16)
    kills = 0
    began = time.monotonic()

    with Load(
        doubled.shop.address, market.bodies, customers=CUSTOMERS, patience_seconds=600
    ) as load:
        told = load.told
        while len(told.confirmed) + len(told.refused) < ORDERS:
            pid = pid_of(doubled.shop, random.choice(PROCESSES))
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            time.sleep(KILL_SECONDS)
        seconds = time.monotonic() - began
        doubled.rest()
        back = time.monotonic()

    assert not [line for line in told.unclean if "no final answer" in line]
    assert kills / seconds > 0.8
    fault = f"{kills} kills -9 of random processes in {seconds:.0f} s"
    tell(
        assert_sound(
            doubled, load, market, fault, seconds=2 * IN_DOUBT_SECONDS + SLACK_SECONDS, back=back
        )
    )


def _left_in_doubt(crashing: Crashing, services: Services, market: Market) -> list[TransactionId]:
    """Do what a coordinator does that dies.

    Let everybody prepare, decide the half of it, and tell nobody.
    """
    body, product = market.bodies[0], next(iter(market.opening.products))
    items = [{"product_id": product, "quantity": 1, "price": 10}]
    ids = sorted(new_transaction_id() for _ in range(BRANCHES // len(PARTICIPANTS)))
    slots = dict(zip(ids, itertools.cycle(market.opening.slots), strict=False))
    for name in PARTICIPANTS:
        for start in range(0, len(ids), ROUND_BRANCHES):
            prepares = [
                Prepare(
                    transaction_id=each, payload=_payload(name, body["user_id"], items, slots[each])
                )
                for each in ids[start : start + ROUND_BRANCHES]
            ]
            assert all(
                vote.prepared
                for vote in services.round(name, Round(generation=1, prepares=prepares)).votes
            )
    decided = [{"id": each, "slot_id": slots[each]} for each in ids[::2]]
    with crashing.admin.begin() as connection:
        couriers = dict(map(tuple, connection.execute(text(_COURIERS))))
        rows = [{**each, "courier": couriers[each["id"]]} for each in decided]
        connection.execute(
            text(_DECIDED),
            {"user_id": body["user_id"], "items": json.dumps(items), "rows": json.dumps(rows)},
        )
    return ids


def _payload(
    name: str, user_id: int, items: list[dict[str, int]], slot_id: int
) -> dict[str, object]:
    if name == "payment":
        return {"user_id": user_id, "amount": 10}
    return {"items": items} if name == "stock" else {"slot_id": slot_id}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_branches_in_doubt_are_resolved_while_the_shop_serves(
    crashing: Crashing, tell: Callable[[Row], None]
) -> None:
    """Within a minute, the half of them confirmed and the half cancelled, and customers are served meanwhile."""
    crashing.rest()
    market = Market.opened(crashing.given, slots=8)
    with Services.found(crashing.shop.data) as services:
        ids = _left_in_doubt(crashing, services, market)
    left = time.monotonic()

    def held() -> int:
        query = "SELECT count(*) FROM {}_service.branches WHERE state = 'prepared' AND transaction_id = ANY (CAST(:ids AS uuid[]))"
        with crashing.admin.connect() as connection:
            return sum(
                connection.execute(text(query.format(name)), {"ids": ids}).scalar_one()
                for name in PARTICIPANTS
            )

    assert held() > BRANCHES * 0.9
    with Load(crashing.shop.address, market.bodies) as load:
        until(lambda: held() == 0, "branches stay in doubt", LEFT_SECONDS)
        seconds = time.monotonic() - left
        served = len(load.told.confirmed)

    assert served > 0
    assert load.told.unclean == []
    row = assert_sound(
        crashing, load, market, f"{BRANCHES} branches left in doubt, {served} orders meanwhile"
    )
    tell(
        Row(
            row.fault, row.offered, row.confirmed, row.refused, row.unknown, seconds, row.violations
        )
    )
