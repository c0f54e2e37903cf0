"""A service that is asked to stop says so, finishes what it has begun, tells what it has decided, and only then ends."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from faults.crashing import Crashing, crashing_shop, pid_of, until
from laws import broken_laws
from running_shop import Shop

#: Less than `in_doubt_after`: what is resolved by then was told, and not asked for.
TOLD_SECONDS = 3
_HELD = text("SELECT count(*) FROM stock_service.branches WHERE state = 'prepared'")


@pytest.fixture
def draining(start_shop: Callable[..., Shop]) -> Iterator[Crashing]:
    """Return a shop whose services go on for a second after they have said that they stop."""
    with crashing_shop(start_shop(DRAIN_WAIT_SECONDS="1")) as crashing:
        yield crashing
    crashing.shop.stop()


def _readiness(address: str) -> int:
    try:
        return httpx.get(f"{address}/health/ready", timeout=1).status_code
    except httpx.TransportError:
        return 0


def test_an_order_under_way_is_confirmed_and_told_by_a_service_that_stops(draining: Crashing) -> None:
    """Readiness off, wait, finish the batch, tell the decision, close: its client hears 201, and no branch waits for the sweep."""
    body, address = draining.given.order_body(), draining.shop.listener("order")
    assert draining.client.post("/orders", json=body).status_code == 201, "the first order of a product teaches its price"
    until(lambda: not broken_laws(draining.admin, at_rest=True), "the first order is not at rest")
    payment, order = draining.shop.pid("payment"), draining.shop.pid("order")

    with ThreadPoolExecutor(1) as pool:
        # Nobody can decide while payment sleeps.
        os.kill(payment, signal.SIGSTOP)
        try:
            answering = pool.submit(httpx.post, f"{address}/orders", json=body, timeout=20)
            until(lambda: _is_held(draining), "stock was never asked")
            os.kill(order, signal.SIGTERM)
            until(lambda: _readiness(address) == 503, "it does not say that it stops", 1)
        finally:
            os.kill(payment, signal.SIGCONT)
        answer = answering.result()
    until(lambda: pid_of(draining.shop, "order") not in (None, order), "order did not end")

    assert answer.status_code == 201, answer.text
    until(lambda: not broken_laws(draining.admin, at_rest=True), "the decision was not told", TOLD_SECONDS)


def _is_held(draining: Crashing) -> bool:
    with draining.admin.connect() as connection:
        return bool(connection.execute(_HELD).scalar_one())
