"""One database comes back from an older backup under a running shop.

It is noticed, named, and mended by `shop reconcile`.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from faults.backups import back_up, restore
from faults.crashing import Crashing, crashing_shop, until, until_at_rest
from faults.report import Row
from running_shop import ROOT, Shop
from shop.operator.audit import audit
from shop.operator.services import Services

RESOLVED_SECONDS = 20
COMMANDS_SECONDS = 60


@contextmanager
def _started(start_shop: Callable[..., Shop], points: Path, *, replicas: int) -> Iterator[Crashing]:
    shop = start_shop(CRASH_POINTS_DIR=str(points), SHOP_REPLICAS=str(replicas))
    with crashing_shop(shop, points) as crashing:
        yield crashing
    shop.stop()


@pytest.fixture(scope="module")
def restoring(
    start_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crashing]:
    """Return a shop with two replicas of every service; each test leaves it reconciled."""
    with _started(start_shop, tmp_path_factory.mktemp("points"), replicas=2) as crashing:
        yield crashing


@pytest.fixture
def spoilt(start_shop: Callable[..., Shop], tmp_path: Path) -> Iterator[Crashing]:
    """Return a shop for a test after which an order contradicts for ever."""
    with _started(start_shop, tmp_path, replicas=1) as crashing:
        yield crashing


def _order(
    restoring: Crashing, body: dict[str, Any], status: int = 201, *, key: str | None = None
) -> str:
    """Order, and return the id of the order, which has this answer."""
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = restoring.client.post("/orders", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return str(answer.json()["order_id"])


def _at_rest(restoring: Crashing) -> None:
    until_at_rest(restoring.admin, RESOLVED_SECONDS)


def _reconcile(restoring: Crashing, *options: str) -> tuple[int, str]:
    """Run the command as an operator does; return its exit code and what it has printed."""
    done = subprocess.run(
        [sys.executable, "-m", "shop", "reconcile", "--data", str(restoring.shop.data), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMANDS_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _complaints(restoring: Crashing) -> str:
    with Services.found(restoring.shop.data) as services:
        return "\n".join(audit(services, look_seconds=0.1).violations)


def _coordinators(restoring: Crashing) -> list[str]:
    return [name for name in restoring.shop.services() if name.startswith("order")]


def _until_refused(restoring: Crashing, body: dict[str, Any], why: str) -> None:
    """Order until all replicas refuse it for this reason; nothing else than 503 may be heard."""
    for listener in _coordinators(restoring):
        address = f"{restoring.shop.listener(listener)}/orders"
        until(
            lambda address=address: _refused(address, body, why),
            f"{listener} takes orders, or says another reason",
        )


def _refused(address: str, body: dict[str, Any], why: str) -> bool:
    answer = httpx.post(address, json=body, timeout=20)
    assert answer.status_code == 503, answer.text
    assert "retry-after" in answer.headers
    return why in str(answer.json()["detail"])


def _until_taken(restoring: Crashing) -> None:
    """Return when all replicas take orders again; each looks once a second."""
    body = restoring.given.order_body(balance=0)
    for listener in _coordinators(restoring):
        address = f"{restoring.shop.listener(listener)}/orders"
        until(
            lambda address=address: httpx.post(address, json=body, timeout=20).status_code == 409,
            f"{listener} takes no orders again",
        )


def _metric(restoring: Crashing, database: str) -> float:
    metrics = httpx.get(f"{restoring.shop.services()['order']['internal']}/metrics").text
    found = re.search(
        rf'^two_phase_restored{{database="{database}"}} (\S+)$', metrics, re.MULTILINE
    )
    assert found, metrics
    return float(found[1])


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("payment", "payment_service"),
        pytest.param("stock", "stock_service", marks=pytest.mark.slow),
        pytest.param("delivery", "delivery_service", marks=pytest.mark.slow),
    ],
)
def test_a_restored_participant_is_noticed_and_gets_back_what_it_has_lost(
    restoring: Crashing, tell: Callable[[Row], None], name: str, schema: str
) -> None:
    """F21: its counter went back; the auditor names the orders.

    Reconcile replays what the log knows.
    """
    body = restoring.given.order_body(couriers=9)
    before = _order(restoring, body)
    _at_rest(restoring)
    back_up(restoring.admin, schema)
    lost = [_order(restoring, body, key=str(uuid4())), _order(restoring, body)]
    _at_rest(restoring)
    told = restoring.given.state_of(body)

    restore(restoring.admin, schema)
    _until_refused(restoring, body, f"{name} was restored from an older backup")
    complaints = _complaints(restoring)
    planned = _reconcile(restoring, "--dry-run")
    began = time.monotonic()
    code, output = _reconcile(restoring)
    assert (code, _complaints(restoring)) == (0, ""), output
    _at_rest(restoring)
    resolved_seconds = time.monotonic() - began
    _until_taken(restoring)
    _order(restoring, body)

    assert all(
        f"order {order_id}: is confirmed, and {name}'s branch is missing" in complaints
        for order_id in lost
    )
    assert before not in complaints
    assert f"would be brought back to {name} │ 2" in re.sub(" +", " ", planned[1])
    now = restoring.given.state_of(body)
    assert now[0]["balance"] == told[0]["balance"] - 10, (
        "what was sold before the restore is sold once"
    )
    assert now[1]["booked"] == told[1]["booked"] + 1
    assert now[2]["quantity"] == told[2]["quantity"] - 1
    tell(Row(f"{schema} restored from an older backup", 4, 4, 0, 0, resolved_seconds, 0))


def test_what_a_participant_refuses_to_take_back_is_left_to_a_human(spoilt: Crashing) -> None:
    """F21: an order of a customer whom the backup does not know is named, and forced on nobody."""
    back_up(spoilt.admin, "payment_service")
    body = spoilt.given.order_body(couriers=9)
    order_id = _order(spoilt, body)
    _at_rest(spoilt)

    restore(spoilt.admin, "payment_service")
    # Before anybody has noticed it: the operator knows what he did.
    code, output = _reconcile(spoilt)
    again = _reconcile(spoilt)

    assert code == 1
    assert (
        f"order {order_id} is confirmed, and payment refuses it now: there is no user {body['user_id']}"
        in output
    )
    assert again[0] == 0, again[1]
    _until_taken(spoilt)
    _order(spoilt, spoilt.given.order_body())


def test_a_restored_log_presumes_nothing_and_gets_back_what_its_participants_know(
    restoring: Crashing, tell: Callable[[Row], None]
) -> None:
    """F22: a new generation, nothing presumed cancelled, a human called.

    Keys, orders and answers are as they were.
    """
    given = restoring.given
    body, poor = given.order_body(couriers=9), given.order_body(balance=1)
    keys = {name: str(uuid4()) for name in ("before", "confirmed", "refused", "in doubt")}
    told = {"before": _order(restoring, body, key=keys["before"])}
    _order(restoring, {**poor, "user_id": body["user_id"]})
    _at_rest(restoring)
    back_up(restoring.admin, "order_service")
    told["confirmed"] = _order(restoring, body, key=keys["confirmed"])
    told["refused"] = _order(restoring, poor, 409, key=keys["refused"])
    told["without key"] = _order(restoring, body)
    _at_rest(restoring)
    in_doubt = _in_doubt(restoring, body, keys["in doubt"])

    restore(restoring.admin, "order_service")
    restoring.rest()
    complaints, resolved_seconds = _log_is_reconciled(restoring, body, in_doubt)

    assert all(
        f"order {told[name]}: is unknown to the log" in complaints
        for name in ("confirmed", "without key")
    )
    until(lambda: _metric(restoring, "log") == 0.0, "the alarm does not end")
    _until_taken(restoring)
    assert _order(restoring, body, key=keys["before"]) == told["before"]
    assert _order(restoring, body, key=keys["confirmed"]) == told["confirmed"]
    assert _order(restoring, poor, 409, key=keys["refused"]) == told["refused"]
    assert _order(restoring, body, key=keys["in doubt"]) == in_doubt
    order = restoring.client.get(f"/orders/{told['without key']}").json()
    assert (order["status"], order["total"], order["user_id"]) == ("confirmed", 10, body["user_id"])
    assert order["courier"]
    tell(Row("order_service restored from an older backup", 6, 5, 1, 0, resolved_seconds, 0))


def _log_is_reconciled(
    restoring: Crashing, body: dict[str, Any], in_doubt: str
) -> tuple[str, float]:
    """Reconcile a restored log; return what the auditor said before, and how long it took."""
    why = "the decision log was restored from an older backup"
    _until_refused(restoring, body, why)
    complaints = _complaints(restoring)
    asked = _reconcile(restoring)
    assert (asked[0], _metric(restoring, "log")) == (1, 1.0), asked[1]
    assert f"order {in_doubt}: all participants hold it" in asked[1]
    _until_refused(restoring, body, why)
    began = time.monotonic()
    code, output = _reconcile(restoring, "--confirm", in_doubt)
    assert (code, _complaints(restoring)) == (0, ""), output
    _at_rest(restoring)
    return complaints, time.monotonic() - began


def _in_doubt(restoring: Crashing, body: dict[str, Any], key: str) -> str:
    """Leave an order that all three hold and that nobody has decided; return its id."""
    address = restoring.shop.listener("order")
    # Teaches this replica the price, so that the next order has one attempt.
    taught = httpx.post(
        f"{address}/orders",
        json={**body, "user_id": restoring.given.user(0)["user_id"]},
        timeout=20,
    )
    assert taught.status_code == 409, taught.text
    _at_rest(restoring)
    killed = restoring.arm("order", "all_votes_in")
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{address}/orders", json=body, headers={"Idempotency-Key": key}, timeout=20)
    with Services.found(restoring.shop.data) as services:
        held = [
            row["transaction_id"]
            for row in services.branches("payment", _BEFORE_ALL, 1000)
            if row["state"] == "prepared"
        ]
    killed()
    assert len(held) == 1
    return str(held[0])


_BEFORE_ALL = "00000000-0000-0000-0000-000000000000"
