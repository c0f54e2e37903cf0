"""The conformance kit on participants behind a socket: our three, and one in JavaScript."""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from conformance.broken import BROKEN
from conformance.in_memory import KEY, UNITS, MemoryParticipant
from conformance.serving import Restartable, served, service, theatre
from integration.trials import SIZED, names
from shop.__main__ import app
from shop.conformance.runner import RULES, Outcome, run
from shop.conformance.trial import Offer, Trial
from shop.conformance.wire import Wire
from shop.local.ports import Ports
from shop.local.postgres import Postgres
from two_phase.messages import InDoubt, Outcomes, Question, new_transaction_id

SEAT_OPTIONS = (
    *("--payload", '{"seats": 1}', "--refused-payload", '{"seats": 1000}'),
    *("--sized-payload", '{"seats": {amount}}', "--capacity", str(UNITS)),
)


@dataclass(frozen=True)
class OwnParticipant:
    """One of our three: what to create at its public port, and what to offer then, given the new thing's id."""

    path: str
    body: dict[str, Any]
    identifier: str
    offer: Callable[[int], Offer]


OWN = {
    "payment_service": OwnParticipant(
        "/payment/users",
        {"name": "Ivan", "balance": UNITS},
        "user_id",
        lambda user: Offer(
            {"user_id": user, "amount": 1},
            {"user_id": user, "amount": UNITS + 1},
            f'{{"user_id": {user}, "amount": {{amount}}}}',
            UNITS,
        ),
    ),
    "stock_service": OwnParticipant(
        "/stock/products",
        {"name": "apple", "price": 5, "quantity": UNITS},
        "product_id",
        lambda product: Offer(
            {"items": [{"product_id": product, "quantity": 1, "price": 5}]},
            {"items": [{"product_id": product, "quantity": 1, "price": 6}]},
            f'{{"items": [{{"product_id": {product}, "quantity": {{amount}}, "price": 5}}]}}',
            UNITS,
        ),
    ),
    "delivery_service": OwnParticipant(
        "/delivery/slots",
        {
            "starts_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
            "couriers": [f"Courier {number}" for number in range(UNITS)],
        },
        "slot_id",
        lambda slot: Offer({"slot_id": slot}, {"slot_id": slot + 1}),
    ),
}


@dataclass(frozen=True)
class Running:
    """A service that runs, and where."""

    process: Restartable
    internal: str
    public: str


@pytest.fixture(scope="module")
def running(
    postgres: Postgres, admin: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Running]]:
    """Return the three services as real processes; nobody is at the coordinator's address."""
    assert admin
    folder = tmp_path_factory.mktemp("services")
    with Ports() as ports, ExitStack() as stack:
        nobody = f"http://127.0.0.1:{ports.reserve()}"
        started = {}
        for name in OWN:
            url = postgres.url("shop", name, "of-this-test-run").render_as_string(
                hide_password=False
            )
            internal, public = ports.reserve(), ports.reserve()
            process = service(name, internal, public, folder, DATABASE_URL=url, ORDER_URLS=nobody)
            stack.callback(process.kill)
            process.start()
            started[name] = Running(
                process, f"http://127.0.0.1:{internal}", f"http://127.0.0.1:{public}"
            )
        for each in started.values():
            each.process.wait_until_ready()
        yield started


@pytest.mark.parametrize("name", OWN)
def test_our_participants_hold_every_rule(
    name: str, running: dict[str, Running], admin: Engine
) -> None:
    """P1 to P15 from outside, on the real service, killed by SIGKILL between prepare and decision."""
    own, process = OWN[name], running[name]
    # Other tests of this folder leave branches in doubt in the same schema.
    prepared_before = _prepared(admin, name)
    created = httpx.post(process.public + own.path, json=own.body, trust_env=False, timeout=10)
    offer = own.offer(created.raise_for_status().json()[own.identifier])

    with httpx.Client(base_url=process.internal, timeout=10, trust_env=False) as client:
        report = run(Trial(Wire(client, KEY), offer, process.process.restart))

    assert not [
        (finding.name, finding.why, finding.exchange)
        for finding in report.findings
        if finding.exchange
    ]
    assert names(report, Outcome.NOT_TRIED) == (set() if offer.sized_payload else SIZED)
    assert report.is_clean()
    assert _prepared(admin, name) == prepared_before


def _prepared(admin: Engine, name: str) -> int:
    with admin.connect() as connection:
        query = text(f"SELECT count(*) FROM {name}.branches WHERE state = 'prepared'")
        return int(connection.execute(query).scalar_one())


def shop(*arguments: str, key: str = KEY) -> tuple[int, str]:
    """Run the command; return its exit code and what it wrote."""
    result = CliRunner(env={"PARTICIPANT_KEY": key}).invoke(app, ["conformance", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port of our own."""
    with Ports() as ports:
        yield ports.reserve()


@pytest.fixture
def start_theatre(port: int, tmp_path: Path) -> Iterator[Callable[..., Restartable]]:
    """Return a function that starts the participant in JavaScript with the given environment."""
    with ExitStack() as stack:

        def start(**environment: str) -> Restartable:
            process = theatre(port, tmp_path, **environment)
            stack.callback(process.kill)
            process.start()
            process.wait_until_ready()
            return process

        yield start


def test_a_participant_in_another_language_holds_every_rule(
    start_theatre: Callable[..., Restartable], port: int
) -> None:
    """The wire protocol is enough to write one, and its promise outlives a SIGKILL."""
    process = start_theatre()

    def restart(_: httpx.Request) -> httpx.Response:
        # The kernel ends a child when the thread that has started it ends, so that must be one that
        # stays.
        pool.submit(process.restart).result()
        return httpx.Response(200)

    with ThreadPoolExecutor(1) as pool, served(restart) as url:
        address = url.removeprefix("http://")
        call = f"import http.client as h; c = h.HTTPConnection('{address}'); c.request('GET', '/'); c.getresponse()"
        command = f'{sys.executable} -c "{call}"'
        code, output = shop(
            f"http://127.0.0.1:{port}", *SEAT_OPTIONS, "--restart-command", command, "--json"
        )

    report = json.loads(output)
    assert [
        (rule["rule"], rule["why"]) for rule in report["rules"] if rule["outcome"] != "held"
    ] == []
    assert (code, len(report["rules"]), report["left_behind"]) == (0, len(RULES), [])


def test_a_participant_in_another_language_asks_about_what_is_in_doubt(
    start_theatre: Callable[..., Restartable], port: int
) -> None:
    """L4, R2: it asks, believes the answer and nothing else, and leaves alone what has none."""
    confirmed, cancelled, undecided = sorted(new_transaction_id() for _ in range(3))
    asked: list[InDoubt] = []

    def coordinator(request: httpx.Request) -> httpx.Response:
        asked.extend(Question.model_validate_json(request.content).transactions)
        # At first it is away, and says something that must not be taken for a decision.
        if len(asked) <= 3:
            return httpx.Response(404, text=Outcomes(cancelled=[confirmed]).model_dump_json())
        return httpx.Response(
            200, text=Outcomes(confirmed=[confirmed], cancelled=[cancelled]).model_dump_json()
        )

    with served(coordinator) as url:
        start_theatre(COORDINATOR_URL=url, IN_DOUBT_AFTER_MS="0")
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}
        ) as client:
            prepares = [
                {"transaction_id": each, "payload": {"seats": 1}}
                for each in (confirmed, cancelled, undecided)
            ]
            client.post(
                "/two-phase/v1/round", json={"generation": 3, "prepares": prepares}
            ).raise_for_status()
            while len(asked) < 7:
                states = {
                    each["transaction_id"]: each["state"]
                    for each in client.get("/two-phase/v1/branches").json()["items"]
                }

    assert states == {confirmed: "committed", cancelled: "aborted", undecided: "prepared"}
    assert {each.generation for each in asked} == {3}


def test_the_command_shows_the_exchange_that_broke_a_rule() -> None:
    """Exit code 1, a plain line per rule, and what was sent and answered."""
    kind = next(kind for kind, rule in BROKEN.items() if rule == "commit_of_unknown")

    with served(kind().answer) as url:
        code, output = shop(url, "--payload", '{"units": 1}')

    lines = output.splitlines()
    at = next(
        number
        for number, line in enumerate(lines)
        if line.startswith("commit_of_unknown is broken")
    )
    assert code == 1
    assert [line.split()[0] for line in lines if "commit_of_unknown:" in line] == ["broken"]
    assert lines[at + 1].startswith(
        '  > POST /two-phase/v1/round {"version":1,"generation":1,"aborts":[],"commits":["'
    )
    assert lines[at + 2].startswith('  < 200 {"version":1,"votes":[],"acknowledged":["')
    assert [
        line for line in lines if "restart_keeps_promises" in line and line.startswith("not tried")
    ]
    assert "1 broken" in lines[-1]
    assert KEY not in output


@pytest.mark.parametrize(
    ("options", "key", "reason"),
    [
        ((), "", "PARTICIPANT_KEY"),
        ((), "another key", "401"),
        (("--payload", "{"), KEY, "--payload is not JSON"),
        (("--payload", "[]"), KEY, "--payload is not a JSON object"),
        (("--sized-payload", "{}"), KEY, "{amount}"),
        (("--key-file", "no/such/file"), KEY, "no/such/file"),
    ],
)
def test_a_trial_that_cannot_begin_says_why(
    options: tuple[str, ...], key: str, reason: str
) -> None:
    """Exit code 2: nothing is known of the participant."""
    with served(MemoryParticipant().answer) as url:
        code, output = shop(url, *options, key=key)

    assert (code, reason in output) == (2, True), output


def test_nobody_at_the_address_is_no_broken_participant(port: int) -> None:
    """Exit code 2 again, and no table of broken rules."""
    code, output = shop(f"http://127.0.0.1:{port}")

    assert (code, "nobody answers" in output) == (2, True), output
