"""F10: the reply to a COMMIT is lost, so that nobody knows whether the row is there, and it is.

PostgreSQL waits for a standby that does not exist: a COMMIT is flushed and never answered. Then its
backend is terminated, or the process that waits for it is killed. Where it lands must be found out
by asking the log, and nobody is told anything before.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from faults.crashing import Crashing, pid_of, until, until_at_rest
from faults.market import RESOLVED_SECONDS
from faults.report import Row
from public_laws import Opening, broken_public_laws

#: What `make test` runs is the first; `make faults` runs both.
HOW = ("backend terminated", pytest.param("client killed", marks=pytest.mark.slow))
_WAITING = "SELECT pid FROM pg_stat_activity WHERE usename = :role AND wait_event = 'SyncRep'"
_ASKING = "SELECT pid FROM pg_stat_activity WHERE usename = 'order_service' AND wait_event IN ('SyncRep', 'transactionid')"
_BRANCHES = " UNION ALL ".join(
    f"SELECT '{name}' AS name, state FROM {name}_service.branches WHERE transaction_id = CAST(:id AS uuid)"
    for name in ("payment", "stock", "delivery")
)
_LAST_ATTEMPT = "SELECT transaction_id::text FROM order_service.claims WHERE idempotency_key = :key"
_STATUS = "SELECT status FROM order_service.orders WHERE transaction_id = CAST(:id AS uuid)"


@contextlib.contextmanager
def _no_commit_answered(admin: Engine) -> Iterator[None]:
    """Let every COMMIT inside the block be flushed, and wait."""
    _administer(admin, "ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
    try:
        until(lambda: _commit_waits(admin), "every COMMIT is answered")
        yield
    finally:
        _administer(admin, "ALTER SYSTEM RESET synchronous_standby_names")


def _administer(admin: Engine, statement: str) -> None:
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
        connection.execute(text("SELECT pg_reload_conf()"))


def _commit_waits(admin: Engine) -> bool:
    """Return whether a COMMIT of our own is not answered.

    The server takes its time to read its configuration.
    """
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(_commit_nothing, admin)
        while not probe.done():
            for row in _read(admin, _WAITING, role="postgres"):
                _read(admin, "SELECT pg_terminate_backend(:pid)", pid=row.pid)
        return isinstance(probe.exception(), OperationalError)


def _commit_nothing(admin: Engine) -> None:
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_logical_emit_message(true, 'probe', '')"))


def _read(admin: Engine, statement: str, **parameters: Any) -> list[Any]:
    with admin.connect() as connection:
        return list(connection.execute(text(statement), parameters))


def _waiting(admin: Engine, service: str) -> list[int]:
    return [row.pid for row in _read(admin, _WAITING, role=f"{service}_service")]


def _lose_the_reply(crashing: Crashing, service: str, how: str) -> None:
    """Cut the connection between a service and its COMMIT that waits, on one side or on the other."""
    if how == "client killed":
        pid = crashing.shop.pid(service)
        os.kill(pid, signal.SIGKILL)
        until(
            lambda: pid_of(crashing.shop, service) not in (None, pid),
            f"{service} was not started again",
        )
        return
    for pid in _waiting(crashing.admin, service):
        _read(crashing.admin, "SELECT pg_terminate_backend(:pid)", pid=pid)


@contextlib.contextmanager
def _asleep_at(crashing: Crashing, service: str, point: str) -> Iterator[Callable[[], None]]:
    """Let a service fall asleep at a point.

    Yields a function that returns when it sleeps, and wakes it up on leaving.
    """
    pid = crashing.shop.pid(service)
    armed = crashing.points / f"{point}.{pid}"
    armed.write_text(str(int(signal.SIGSTOP)))
    try:
        yield lambda: until(lambda: not armed.exists(), f"{service} never reached {point}")
    finally:
        armed.unlink(missing_ok=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _body_of_known_price(crashing: Crashing) -> dict[str, Any]:
    """Return an order that needs one attempt, because another one has taught its price."""
    body = crashing.given.order_body()
    taught = crashing.client.post(
        "/orders", json={**body, "user_id": crashing.given.user(0)["user_id"]}
    )
    assert taught.status_code == httpx.codes.CONFLICT, taught.text
    return body


def _ordered(
    crashing: Crashing, pool: ThreadPoolExecutor, body: dict[str, Any], key: str
) -> "Future[httpx.Response]":
    address = f"http://{crashing.shop.address}/orders"
    return pool.submit(httpx.post, address, json=body, headers={"Idempotency-Key": key}, timeout=20)


def _attempt(crashing: Crashing, key: str) -> str:
    return str(_read(crashing.admin, _LAST_ATTEMPT, key=key)[0][0])


def _states(crashing: Crashing, transaction_id: str) -> dict[str, str]:
    return {row.name: row.state for row in _read(crashing.admin, _BRANCHES, id=transaction_id)}


def _assert_sold_once(crashing: Crashing, body: dict[str, Any], fault: str) -> Row:
    """Hold the laws, in the schemas and in public: one order, whatever was lost on the way."""
    back = time.monotonic()
    until_at_rest(crashing.admin, RESOLVED_SECONDS)
    resolved_seconds = time.monotonic() - back
    opening = Opening(
        {body["user_id"]: 100}, {body["items"][0]["product_id"]: 100}, {body["slot_id"]: 2}
    )

    assert broken_public_laws(crashing.client, opening) == []
    assert crashing.given.state_of(body)[0]["balance"] == 90
    return Row(fault, 1, 1, 0, 0, resolved_seconds, 0)


@pytest.mark.parametrize("how", HOW)
def test_a_decision_whose_reply_is_lost_is_told_by_the_log_alone(
    crashing: Crashing, tell: Callable[[Row], None], how: str
) -> None:
    """R3: until the log has told, the customer hears 202 or nothing, and no participant hears anything."""
    crashing.rest()
    body, key = _body_of_known_price(crashing), str(uuid4())
    with ThreadPoolExecutor(1) as pool:
        with contextlib.ExitStack() as ghost:
            with _asleep_at(crashing, "order", "all_votes_in") as sleeps:
                answering = _ordered(crashing, pool, body, key)
                sleeps()
                order_id = _attempt(crashing, key)
                ghost.enter_context(_no_commit_answered(crashing.admin))
            until(lambda: _waiting(crashing.admin, "order") != [], "the decision never waited")
            deciding = set(_waiting(crashing.admin, "order"))
            _lose_the_reply(crashing, "order", how)
            heard = answering.result(timeout=20)
            # Whoever asks the log meanwhile, by a repeated insert or for a recovery pass, is not
            # answered either.
            until(
                lambda: {row.pid for row in _read(crashing.admin, _ASKING)} - deciding != set(),
                "nobody asked the log",
            )

            assert heard.status_code in (202, 503), heard.text
            assert "order_status" not in heard.json(), heard.text
            assert set(_states(crashing, order_id).values()) == {"prepared"}
        final = crashing.final_answer(body, key)

    assert (final.status_code, final.json()["order_id"]) == (201, order_id)
    tell(_assert_sold_once(crashing, body, f"reply to the decision's COMMIT lost, {how}"))


@pytest.mark.parametrize("how", HOW)
def test_a_prepare_whose_reply_is_lost_is_no_vote(
    crashing: Crashing, tell: Callable[[Row], None], how: str
) -> None:
    """R6: nobody knows what was held, so the order is cancelled, and what was held is given back when it shows."""
    crashing.rest()
    body, key = _body_of_known_price(crashing), str(uuid4())
    with ThreadPoolExecutor(1) as pool:
        with contextlib.ExitStack() as ghost:
            with _asleep_at(crashing, "payment", "prepare_not_durable") as sleeps:
                answering = _ordered(crashing, pool, body, key)
                sleeps()
                attempt = _attempt(crashing, key)
                until(lambda: len(_states(crashing, attempt)) == 2, "the others did not vote")
                ghost.enter_context(_no_commit_answered(crashing.admin))
            until(lambda: _waiting(crashing.admin, "payment") != [], "the prepare never waited")

            assert "payment" not in _states(crashing, attempt)
            _lose_the_reply(crashing, "payment", how)
            heard = answering.result(timeout=20)
            until(
                lambda: _read(crashing.admin, _STATUS, id=attempt) == [("cancelled",)],
                "nothing was decided",
            )
        assert heard.status_code == 503, heard.text
        assert heard.headers["retry-after"]
        until(
            lambda: set(_states(crashing, attempt).values()) == {"aborted"},
            "something is still held",
            RESOLVED_SECONDS,
        )
        final = crashing.final_answer(body, key)

    assert final.status_code == 201
    assert final.json()["order_id"] != attempt
    tell(_assert_sold_once(crashing, body, f"reply to a prepare's COMMIT lost, {how}"))
