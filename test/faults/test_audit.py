"""The auditor finds what was broken by hand, and says which order.

It finds nothing where nothing is broken.
"""

from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from faults.crashing import admin_of
from given import Given
from running_shop import Shop
from shop.operator.audit import audit
from shop.operator.services import Services


@pytest.fixture(scope="module")
def audited(start_shop: Callable[..., Shop]) -> Iterator[tuple[Services, Given, Engine]]:
    """Return a shop of this module's own: its internal API, its customers, and its database."""
    shop = start_shop()
    admin = admin_of(shop)
    with (
        httpx.Client(base_url=f"http://{shop.address}", timeout=10) as client,
        Services.found(shop.data) as services,
    ):
        yield services, Given(client), admin
    admin.dispose()
    shop.stop()


def _order(given: Given) -> str:
    answer = given.client.post(
        "/orders", json=given.order_body(), headers={"Idempotency-Key": str(uuid4())}
    )
    assert answer.status_code == httpx.codes.CREATED, answer.text
    order_id = str(answer.json()["order_id"])
    # Reading makes every decision told arrive at the participants.
    for path in ("/payment/users", "/delivery/slots", "/stock/products"):
        given.client.get(f"{path}/{1}")
    return order_id


def _touch(admin: Engine, statement: str, order_id: str) -> None:
    with admin.begin() as connection:
        changed = connection.execute(text(statement), {"id": order_id})
        assert changed.rowcount == 1


PLANTED = {
    "a branch that was given back": (
        "UPDATE payment_service.branches SET state = 'aborted', settled_at = now() WHERE transaction_id = CAST(:id AS uuid)",
        "is confirmed, and payment's branch is aborted",
    ),
    "a branch that is gone": (
        "DELETE FROM stock_service.branches WHERE transaction_id = CAST(:id AS uuid)",
        "is confirmed, and stock's branch is missing",
    ),
    "another amount than was ordered": (
        """UPDATE payment_service.branches SET payload = jsonb_set(payload, '{amount}', '11')
           WHERE transaction_id = CAST(:id AS uuid)""",
        "was ordered",
    ),
    "a branch without its order": (
        """WITH bare AS (SELECT set_config('session_replication_role', 'replica', true))
           DELETE FROM order_service.orders USING bare WHERE transaction_id = CAST(:id AS uuid)""",
        "is unknown to the log, and delivery's branch is committed",
    ),
}


def test_an_audit_of_a_sound_shop_finds_nothing(audited: tuple[Services, Given, Engine]) -> None:
    """No false alarm: orders confirmed and refused, all of them looked at."""
    services, given, _ = audited
    before = audit(services, look_seconds=0.2)
    _order(given)
    given.client.post("/orders", json=given.order_body(balance=0))

    findings = audit(services, look_seconds=0.2)

    assert findings.violations == before.violations
    assert findings.confirmed == before.confirmed + 1
    assert findings.cancelled > before.cancelled


@pytest.mark.parametrize("what", PLANTED)
def test_an_audit_names_the_order_with(audited: tuple[Services, Given, Engine], what: str) -> None:
    """L1, L6 and L7, each broken by hand."""
    services, given, admin = audited
    statement, complaint = PLANTED[what]
    order_id = _order(given)

    _touch(admin, statement, order_id)
    complaints = [line for line in audit(services, look_seconds=0.2).violations if order_id in line]

    assert any(complaint in line for line in complaints), complaints
