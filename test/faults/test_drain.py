"""A service that is asked to stop says so, finishes what it has begun, tells what it has decided, and only then ends."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
from sqlalchemy import text

from faults.crashing import Crashing, pid_of, until
from laws import broken_laws

#: Less than `in_doubt_after`: what is resolved by then was told, and not asked for.
TOLD_SECONDS = 3
_HELD = text("SELECT count(*) FROM stock_service.branches WHERE state = 'prepared'")


def _readiness(address: str) -> int:
    try:
        return httpx.get(f"{address}/health/ready", timeout=1).status_code
    except httpx.TransportError:
        return 0


def test_an_order_under_way_is_confirmed_and_told_by_a_service_that_stops(
    crashing: Crashing,
) -> None:
    """Readiness off, wait, finish the batch, tell the decision, close.

    Its client hears 201, and no branch waits for recovery.
    """
    crashing.rest()
    body, address = crashing.given.order_body(), crashing.shop.listener("order")
    assert crashing.client.post("/orders", json=body).status_code == 201, (
        "the first order of a product teaches its price"
    )
    until(lambda: not broken_laws(crashing.admin, at_rest=True), "the first order is not at rest")
    payment, order = crashing.shop.pid("payment"), crashing.shop.pid("order")

    with ThreadPoolExecutor(1) as pool:
        # Nobody can decide while payment sleeps.
        os.kill(payment, signal.SIGSTOP)
        try:
            answering = pool.submit(httpx.post, f"{address}/orders", json=body, timeout=20)
            until(lambda: _is_held(crashing), "stock was never asked")
            os.kill(order, signal.SIGTERM)
            until(lambda: _readiness(address) == 503, "it does not say that it stops", 1)
        finally:
            os.kill(payment, signal.SIGCONT)
        answer = answering.result()
    until(lambda: pid_of(crashing.shop, "order") not in (None, order), "order did not end")

    assert answer.status_code == 201, answer.text
    until(
        lambda: not broken_laws(crashing.admin, at_rest=True),
        "the decision was not told",
        TOLD_SECONDS,
    )


def _is_held(crashing: Crashing) -> bool:
    with crashing.admin.connect() as connection:
        return bool(connection.execute(_HELD).scalar_one())
