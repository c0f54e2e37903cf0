"""What is worse than a crash.

A process that sleeps and wakes, a database that falls over, a restart of everything under load.
"""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from faults.crashing import Crashing, pid_of, until, until_at_rest
from faults.load import Load
from faults.market import RESOLVED_SECONDS, Market, assert_sound
from faults.report import Row
from laws import broken_laws
from shop import topology

PROCESSES = [
    f"{name}{suffix}"
    for name in (service.name for service in topology.SERVICES)
    for suffix in ("", "-2")
]


def test_a_coordinator_that_sleeps_past_a_recovery_pass_cannot_overrule_it(
    doubled: Crashing,
) -> None:
    """F8: its insert loses, its client hears 503, and nothing is taken."""
    doubled.rest()
    body = doubled.given.order_body()
    asleep = doubled.shop.pid("order")
    armed = doubled.points / f"all_votes_in.{asleep}"
    armed.write_text(str(int(signal.SIGSTOP)))
    address = doubled.shop.listener("order")

    with ThreadPoolExecutor(1) as pool:
        # Twice, because the first order of a product only teaches its price.
        answering = pool.submit(httpx.post, f"{address}/orders", json=body, timeout=40)
        try:
            until(lambda: not armed.exists(), "order never reached all_votes_in")
            until(
                lambda: not broken_laws(doubled.admin, at_rest=True),
                "recovery resolved nothing",
                RESOLVED_SECONDS,
            )
        finally:
            os.kill(asleep, signal.SIGCONT)
        answer = answering.result(timeout=40)

    assert answer.status_code == 503, answer.text
    user, slot, product = doubled.given.state_of(body)
    assert (user["balance"], slot["booked"], product["quantity"]) == (100, 0, 100)


@pytest.mark.slow
def test_postgresql_may_fall_over_again_and_again_under_load(
    doubled: Crashing, tell: Callable[[Row], None]
) -> None:
    """F11: clean 503s, recovery, and every customer was told the truth."""
    doubled.rest()
    market = Market.opened(doubled.given)
    with Load(doubled.shop.address, market.bodies) as load:
        for _ in range(4):
            time.sleep(3)
            pid = doubled.shop.pid("postgres")
            os.kill(pid, signal.SIGQUIT)
            until(
                lambda pid=pid: pid_of(doubled.shop, "postgres") not in (None, pid),
                "PostgreSQL was not started again",
                30,
            )
            doubled.rest()

    assert load.told.unclean == []
    tell(assert_sound(doubled, load, market, "PostgreSQL stopped in immediate mode, 4 times"))


@pytest.mark.slow
def test_a_rolling_restart_under_load_fails_no_request(
    doubled: Crashing, tell: Callable[[Row], None]
) -> None:
    """F20: each replica in turn is asked to stop, and customers hear clean answers only."""
    doubled.rest()
    market = Market.opened(doubled.given)
    with Load(doubled.shop.address, market.bodies) as load:
        for process in PROCESSES:
            pid = doubled.shop.pid(process)
            os.kill(pid, signal.SIGTERM)
            until(
                lambda p=process, old=pid: pid_of(doubled.shop, p) not in (None, old),
                f"{process} did not restart",
                30,
            )
            doubled.rest()

    assert load.told.unclean == []
    tell(assert_sound(doubled, load, market, "rolling restart of all services"))


@pytest.mark.slow
def test_killing_random_processes_all_the_time_splits_no_order(
    doubled: Crashing, tell: Callable[[Row], None]
) -> None:
    """Numbers to reach: continuous kill -9 of every process, and 0 violations.

    Each order has one answer in the end.
    """
    doubled.rest()
    ends = time.monotonic() + 40
    market = Market.opened(doubled.given)
    with Load(doubled.shop.address, market.bodies, patience_seconds=90) as load:
        for process in (PROCESSES * 20)[: 20 * len(PROCESSES)]:
            if time.monotonic() > ends:
                break
            pid = pid_of(doubled.shop, process)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.7)
        doubled.rest()

    assert not [line for line in load.told.unclean if "no final answer" in line]
    tell(assert_sound(doubled, load, market, "kill -9 of every process in turn, 40 s"))


@pytest.mark.slow
def test_a_client_that_goes_away_has_its_order_finished_all_the_same(doubled: Crashing) -> None:
    """F18: the order is confirmed once, and a later request with the same key hears of it."""
    doubled.rest()
    body = doubled.given.order_body(couriers=1)
    key = str(uuid4())

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{doubled.shop.listener('order')}/orders",
            json=body,
            headers={"Idempotency-Key": key},
            timeout=httpx.Timeout(5, read=0.000_001),
        )
    answer = doubled.final_answer(body, key)

    assert answer.status_code == 201
    until_at_rest(doubled.admin, RESOLVED_SECONDS)
