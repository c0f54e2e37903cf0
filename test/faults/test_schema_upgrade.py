"""F20: a schema is upgraded while customers order.

Old processes go on over the new schema, and are then replaced one by one.

Code runs before and after its own migration (docs/migrations.md), so that nobody hears of an
upgrade, nor of a rollback.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

import ready_data
from faults.crashing import Crashing, crashing_shop, pid_of, until
from faults.load import Load
from faults.market import Market, assert_sound
from faults.report import Row
from later_schema import LATER, add_later, first, newest
from running_shop import ROOT, launch
from shop.topology import PACKAGES

CODE = ("two_phase", "service_chassis", "config", *PACKAGES)
BY_HAND = ROOT / "config" / "alembic.ini"
#: What a migration may do under processes that know nothing of it.
_EXPANDING = [
    "CREATE TABLE of_the_next_release (id bigint PRIMARY KEY)",
    "CREATE INDEX CONCURRENTLY ON {table} (transaction_id, of_the_next_release)",
]
_ADDING = "ALTER TABLE {table} ADD COLUMN of_the_next_release jsonb NOT NULL DEFAULT '[]'"


@contextmanager
def _running(release: Path, folder: Path) -> Iterator[Crashing]:
    """Run two replicas of every service from the code in ``release``."""
    shop = launch(
        folder, SHOP_REPLICAS="2", PYTHONPATH=f"{release}:{ROOT / 'test'}", PYTHONSAFEPATH="1"
    )
    try:
        shop.wait_until_ready()
        with crashing_shop(shop) as crashing:
            yield crashing
    finally:
        shop.stop()


def _migrate(shop: Crashing, service: str, ini: Path = BY_HAND) -> None:
    """Run what the migration Job of a release runs, as the service's own role."""
    passwords = json.loads((shop.shop.data / "secrets.json").read_text())
    url = shop.admin.url.set(username=service, password=passwords[service]).render_as_string(
        hide_password=False
    )
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ini), "-n", service, "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def _revisions(shop: Crashing) -> dict[str, str]:
    with shop.admin.connect() as connection:
        return {
            service: str(
                connection.execute(
                    text(f"SELECT version_num FROM {service}.alembic_version")
                ).scalar_one()
            )
            for service in PACKAGES
        }


def _roll(shop: Crashing, *processes: str) -> None:
    """Replace each of these processes, or of all, in turn, as a Deployment does."""
    for process in processes or shop.shop.services():
        pid = shop.shop.pid(process)
        os.kill(pid, signal.SIGTERM)
        until(
            lambda p=process, old=pid: pid_of(shop.shop, p) not in (None, old),
            f"{process} did not restart",
            30,
        )
        shop.rest()


def _more_are_confirmed(load: Load, orders: int = 20) -> None:
    before = len(load.told.confirmed)
    until(lambda: len(load.told.confirmed) >= before + orders, "customers are not served any more")


@pytest.mark.timeout(300)
def test_code_of_this_release_runs_on_over_the_schema_of_the_next_and_after_a_rollback(
    ready: Path, tmp_path: Path, tell: Callable[[Row], None]
) -> None:
    """This release serves customers while, and after, the next one's migrations run.

    One process of each service starts over them.
    """
    ready_data.copy(ready, tmp_path / "data")
    with _running(ROOT, tmp_path) as shop:
        market = Market.opened(shop.given)
        with Load(shop.shop.address, market.bodies, customers=2) as load:
            _more_are_confirmed(load)
            for service in PACKAGES:
                table = "orders" if service == "order_service" else "branches"
                statements = [each.format(table=table) for each in (_ADDING, *_EXPANDING)]
                _migrate(
                    shop, service, add_later(service, tmp_path / "later" / service, statements)
                )
            _more_are_confirmed(load)
            _roll(shop, *(each.removesuffix("_service") for each in PACKAGES))
            _more_are_confirmed(load)

        assert load.told.unclean == []
        assert set(_revisions(shop).values()) == {LATER}
        tell(
            assert_sound(
                shop, load, market, "the next release's migrations, and a rollback to this one"
            )
        )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_first_release_is_upgraded_to_this_one_under_load(
    tmp_path: Path, tell: Callable[[Row], None]
) -> None:
    """From the first revision to the newest.

    Migrations first, under the old code, then the new code, process by process.
    """
    release = _first_release(tmp_path / "release")
    with _running(release, tmp_path) as shop:
        assert _revisions(shop) == {service: first(service) for service in PACKAGES}
        market = Market.opened(shop.given)
        with Load(shop.shop.address, market.bodies) as load:
            _more_are_confirmed(load)
            for service in PACKAGES:
                _migrate(shop, service)
            _more_are_confirmed(load)
            _replace_code(release)
            _roll(shop)
            _more_are_confirmed(load)

        assert load.told.unclean == []
        assert _revisions(shop) == {service: newest(service) for service in PACKAGES}
        tell(assert_sound(shop, load, market, "upgrade from the first revision to the newest"))


def _first_release(folder: Path) -> Path:
    """Return the code as it was before any service had a second revision."""
    later = [
        str(path.relative_to(ROOT))
        for service in PACKAGES
        for path in (ROOT / service / "migrations" / "versions").glob("[0-9]*.py")
        if not path.name.startswith(first(service))
    ]
    adding = _git(
        "log", "--topo-order", "--reverse", "--diff-filter=A", "--format=%H", "--", *later
    ).split()
    if not adding:
        complaint = "the repository's history is needed: it has the release in which there was one revision only"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(complaint)
    with tempfile.TemporaryFile() as archive:
        subprocess.run(["git", "archive", f"{adding[0]}^"], cwd=ROOT, check=True, stdout=archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as content:
            content.extractall(folder, filter="data")
    return folder


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout


def _replace_code(release: Path) -> None:
    """Bring this tree's code where the old one was; processes that run have read theirs."""
    for name in CODE:
        shutil.copytree(
            ROOT / name, release / f"{name}.new", ignore=shutil.ignore_patterns("__pycache__")
        )
        # The first release may have had no such package.
        if (release / name).exists():
            (release / name).rename(release / f"{name}.old")
        (release / f"{name}.new").rename(release / name)
