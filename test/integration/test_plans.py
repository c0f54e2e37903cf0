"""What a hot statement reads does not grow with its table.

PostgreSQL itself tells the plan of every statement that the shop runs.

auto_explain writes the plan of each statement with what it has really read into the server's log,
with the parameters and the prepared statements of the services, checks of keys and triggers
included. So nothing is copied here that could become untrue.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from faults.crashing import admin_of
from running_shop import Shop
from shop.operator.services import PARTICIPANTS
from two_phase.http.paths import OUTCOMES_PATH, PEEK_PATH

ROWS = 100_000
COURIERS = 100
SEED = Path(__file__).parents[1] / "bench" / "seed.sql"
PATIENCE_SECONDS = 30
#: A page of five slots with all their couriers is the most that one statement looks at.
READ_AT_MOST = 10 * COURIERS
GROWING = {
    *(f"{service}_service.branches" for service in PARTICIPANTS),
    "order_service.orders",
    "order_service.claims",
    "payment_service.accounts",
    "payment_service.deposits",
    "stock_service.products",
    "stock_service.restocks",
    "delivery_service.slots",
    "delivery_service.couriers",
}
_MORE = f"""
SET session_replication_role = replica;
INSERT INTO payment_service.deposits (user_id, amount, idempotency_key, answer)
SELECT number, 1, 'stored-' || number, '{{}}' FROM generate_series(1, {ROWS}) AS number;
INSERT INTO stock_service.restocks (product_id, quantity, idempotency_key, answer)
SELECT number, 1, 'stored-' || number, '{{}}' FROM generate_series(1, {ROWS}) AS number;
INSERT INTO delivery_service.slots (starts_at) SELECT now() + interval '90 days' FROM generate_series(1, {ROWS});
INSERT INTO order_service.claims (user_id, idempotency_key, transaction_id, request_digest, expires_at)
SELECT number, 'claimed-' || number, gen_random_uuid(), '', now() FROM generate_series(1, {ROWS}) AS number;
RESET session_replication_role;
"""
_EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_verbose": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_nested_statements": "on",
}
_DISCONNECT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE '%_service'"
)
#: A whole plan: what is still being written is left for the next look.
_PLAN = re.compile(r"ms  plan:\n(\t\{\n(?:\t .*\n)+\t\}\n)")

#: A million rows are filled in first, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Scan:
    """How a statement has read one table."""

    table: str
    how: str
    rows: float
    statement: str

    def is_index_work(self) -> bool:
        """Return whether it has found its rows by an index, and has not looked at many more."""
        return self.how != "Seq Scan" and self.rows <= READ_AT_MOST


@dataclass(frozen=True)
class Grown:
    """A shop with large tables, whose database tells every plan."""

    shop: Shop
    client: httpx.Client
    admin: Engine

    def scans(self, traffic: Callable[[], None]) -> list[Scan]:
        """Return how the growing tables were read by everything that ``traffic`` has made the services do."""
        log = self.shop.data / "logs" / "postgres.log"
        begin = log.stat().st_size
        traffic()
        with log.open(errors="replace") as file:
            file.seek(begin)
            plans = [json.loads(plan) for plan in _PLAN.findall(file.read())]
        found = (
            scan
            for plan in plans
            for scan in _scans(plan["Plan"], " ".join(plan["Query Text"].split()))
        )
        return [scan for scan in found if scan.table in GROWING]


def _scans(node: dict[str, Any], statement: str) -> Iterator[Scan]:
    if "Relation Name" in node:
        looked_at = node["Actual Rows"] + sum(
            node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck")
        )
        table = f"{node['Schema']}.{node['Relation Name']}"
        yield Scan(table, node["Node Type"], looked_at * node["Actual Loops"], statement)
    for child in node.get("Plans", []):
        yield from _scans(child, statement)


@pytest.fixture(scope="module")
def grown(start_shop: Callable[..., Shop]) -> Iterator[Grown]:
    """Return a shop of this module's own with 100,000 rows in every table that grows."""
    shop = start_shop()
    admin = admin_of(shop)
    with httpx.Client(base_url=f"http://{shop.address}", timeout=10) as client:
        _fill(admin)
        _order_until_taken(client)
        yield Grown(shop, client, admin)
    admin.dispose()
    shop.stop()


def _fill(admin: Engine) -> None:
    sizes = {"users": ROWS, "products": ROWS, "slots": ROWS // COURIERS, "orders": ROWS}
    script = SEED.read_text().format(**sizes, couriers=COURIERS, plenty=10**12, price=10)
    settings = [f"ALTER DATABASE shop SET {name} = '{value}'" for name, value in _EXPLAIN.items()]
    with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        _need_auto_explain(connection)
        cursor = connection.connection.cursor()
        # What is set for a database holds for new connections.
        for statement in (script, _MORE, "VACUUM ANALYZE", *settings, _DISCONNECT):
            cursor.execute(statement)


def _need_auto_explain(connection: Connection) -> None:
    try:
        connection.execute(text("LOAD 'auto_explain'"))
    except DBAPIError as missing:
        reason = f"PLANS ARE NOT CHECKED: this PostgreSQL has no auto_explain (it is in postgresql-contrib): {missing.orig}"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)


def _order_until_taken(client: httpx.Client) -> None:
    """Order until the services have their connections again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while client.post("/orders", json=_order(1)).status_code != httpx.codes.CREATED:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _order(number: int) -> dict[str, Any]:
    """Return an order for something that no other number has to do with."""
    number = 1 + number * 7919 % ROWS
    return {
        "user_id": number,
        "items": [{"product_id": number, "quantity": 1}],
        "slot_id": 1 + number % (ROWS // COURIERS),
    }


def _everyday(grown: Grown) -> None:
    """Do everything that customers do, often enough for plans that are kept, and wait for a recovery pass."""
    for number in range(2, 12):
        key = {"Idempotency-Key": str(uuid4())}
        codes = [
            grown.client.post("/orders", json=_order(number), headers=key).status_code
            for _ in range(2)
        ]
        assert codes == [201, 201]
        assert grown.client.post("/orders", json=_order(number)).status_code == httpx.codes.CREATED
        too_much = _order(number) | {"items": [{"product_id": number, "quantity": 10**13}]}
        assert grown.client.post("/orders", json=too_much).status_code == httpx.codes.CONFLICT
        for path, body in (
            ("/payment/users/{}/deposits", {"amount": 1}),
            ("/stock/products/{}/restocks", {"quantity": 1}),
        ):
            answers = [
                grown.client.post(path.format(number), json=body, headers=key).status_code
                for _ in range(2)
            ]
            assert answers == [201, 201]
        for path in _pages(number):
            assert grown.client.get(path).status_code == httpx.codes.OK, path
    _ask_about_unknown_orders(grown.shop)
    _wait_for_a_recovery_pass_of_each(grown.shop)


def _wait_for_a_recovery_pass_of_each(shop: Shop) -> None:
    """Return when every participant has looked for branches in doubt once more, which it does once a second."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    log = shop.data / "logs" / "postgres.log"
    with log.open(errors="replace") as file:
        file.seek(log.stat().st_size)
        recovered: set[str] = set()
        while len(recovered) < len(PARTICIPANTS):
            assert time.monotonic() < deadline, f"only these have recovered: {recovered}"
            time.sleep(0.1)
            plans = [json.loads(plan) for plan in _PLAN.findall(file.read())]
            scans = (scan for plan in plans for scan in _scans(plan["Plan"], plan["Query Text"]))
            recovered |= {scan.table for scan in scans if "recorded_at <=" in scan.statement}


def _pages(number: int) -> list[str]:
    order_id = f"018bcfe5-{0x6800 + number:04x}-7000-8000-{number:012x}"
    return [
        f"/orders/{order_id}",
        f"/orders?user_id={number}&limit=5",
        "/orders?limit=5",
        "/orders?status=cancelled&limit=5",
        "/orders?status=confirmed&limit=5",
        f"/payment/users/{number}",
        f"/payment/users/{number}/statement?limit=5",
        f"/stock/products/{number}",
        "/stock/products?limit=5",
        f"/delivery/slots/{1 + number}",
        "/delivery/slots?limit=5",
    ]


def _ask_about_unknown_orders(shop: Shop) -> None:
    """Ask what participants ask about branches in doubt."""
    key = json.loads((shop.data / "secrets.json").read_text())["payment_key"]
    question = {"version": 1, "transactions": [{"transaction_id": str(uuid4()), "generation": 1}]}
    for path in (PEEK_PATH, OUTCOMES_PATH):
        url = f"{shop.services()['order']['internal']}{path}"
        answer = httpx.post(url, json=question, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == httpx.codes.OK, answer.text


def test_no_hot_statement_reads_more_when_its_table_grows(grown: Grown) -> None:
    """Every statement of an order, of its recovery and of the pages about it finds its rows by an index, and few rows."""
    scans = grown.scans(lambda: _everyday(grown))

    assert {scan.table for scan in scans} == GROWING
    # By statement, so that the message has each once.
    assert {scan.statement: scan for scan in scans if not scan.is_index_work()} == {}


@pytest.mark.parametrize(
    ("index", "page"),
    [
        ("payment_service.payments_by_user", "/payment/users/77/statement"),
        ("order_service.orders_by_user", "/orders?user_id=77"),
        ("payment_service.branches_undecided", "/payment/users/77"),
    ],
)
def test_a_missing_index_is_seen(grown: Grown, index: str, page: str) -> None:
    """The check above can fail: without an index PostgreSQL reads the whole table, and says so."""
    with grown.admin.connect() as connection:
        definition = connection.execute(
            text("SELECT pg_get_indexdef(CAST(:index AS regclass))"), {"index": index}
        ).scalar_one()
        connection.execute(text(f"DROP INDEX {index}"))
        connection.commit()
        scans = grown.scans(lambda: grown.client.get(page).raise_for_status())
        connection.execute(text(definition))
        connection.commit()

    assert not all(scan.is_index_work() for scan in scans)
