"""Migrations on a real PostgreSQL.

Onwards from any revision, one at a time, and never backwards under older code.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from later_schema import LATER, add_later, first, newest
from running_shop import ROOT
from service_chassis import migrations
from service_chassis.database import connect
from shop.local.database import connected
from shop.local.postgres import Postgres
from shop.topology import PACKAGES

BY_HAND = ROOT / "config" / "alembic.ini"


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Return the address of an empty database of this test's own."""
    with connected(postgres.url()) as connection:
        connection.execute(text("CREATE DATABASE of_its_own"))
    yield postgres.url("of_its_own").render_as_string(hide_password=False)
    with connected(postgres.url()) as connection:
        connection.execute(text("DROP DATABASE of_its_own WITH (FORCE)"))


def _alembic(service: str, database: str, *words: str, ini: Path = BY_HAND) -> str:
    """Run alembic as every deployment does, and return what it said; fails the test if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ini), "-n", service, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _revision(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def _is_current(engine: Engine, service: str) -> bool:
    with engine.connect() as connection:
        return migrations.is_current(connection, service)


@pytest.fixture
def engines_of_its_own(database: str) -> Iterator[dict[str, Engine]]:
    """Return connections to each service's schema in the test's own database."""
    made = {service: connect(SecretStr(database), service, pool_size=2) for service in PACKAGES}
    yield made
    for engine in made.values():
        engine.dispose()


@pytest.mark.parametrize("service", PACKAGES)
def test_a_service_waits_for_its_schema_and_takes_a_later_one(
    database: str,
    engines_of_its_own: dict[str, Engine],
    service: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Code runs before and after its own migration.

    Not below the schema that it knows, but on any above it.
    """
    engine = engines_of_its_own[service]
    ini = add_later(
        service, tmp_path / service, ["CREATE TABLE of_the_next_release (id bigint PRIMARY KEY)"]
    )

    assert not _is_current(engine, service), "there is no schema yet"
    _alembic(service, database, "upgrade", first(service))
    assert _is_current(engine, service) is (first(service) == newest(service))
    _alembic(service, database, "upgrade", "head")
    assert _is_current(engine, service)
    assert f"{service} is at" not in caplog.text
    _alembic(service, database, "upgrade", "head", ini=ini)

    with caplog.at_level(logging.WARNING):
        assert _is_current(engine, service)
    assert f"the schema {service} is at {LATER}" in caplog.text


def test_older_code_leaves_a_later_schema_as_it_is(
    database: str, engines_of_its_own: dict[str, Engine], tmp_path: Path
) -> None:
    """`helm rollback` runs the migration Job of the older image once more.

    It says what it found, succeeds, changes nothing.
    """
    service = "order_service"
    ini = add_later(
        service, tmp_path / service, ["CREATE TABLE of_the_next_release (id bigint PRIMARY KEY)"]
    )
    _alembic(service, database, "upgrade", "head", ini=ini)

    said = _alembic(service, database, "upgrade", "head")

    assert (
        f"{service} is at {LATER}, and this code knows revisions up to {newest(service)} only"
        in said
    )
    assert _revision(engines_of_its_own[service]) == LATER
    with engines_of_its_own[service].connect() as connection:
        assert (
            connection.execute(text("SELECT to_regclass('of_the_next_release')")).scalar_one()
            is not None
        )


def test_two_migrations_at_once_wait_for_each_other_through_all_revisions(
    database: str, engines_of_its_own: dict[str, Engine], tmp_path: Path
) -> None:
    """Two Jobs of one service may start together.

    The second finds nothing left to do, and neither fails.
    """
    slow = [
        "CREATE TABLE of_the_next_release (id bigint PRIMARY KEY)",
        "SELECT pg_sleep(1)",
        # Waits for every statement that runs, and so for those that wait for their turn, if they
        # wait inside of one.
        "CREATE INDEX CONCURRENTLY index_of_the_next_release ON branches (state)",
    ]
    ini = add_later("payment_service", tmp_path, slow)

    with ThreadPoolExecutor(3) as pool:
        said = list(
            pool.map(
                lambda _: _alembic("payment_service", database, "upgrade", "head", ini=ini),
                range(3),
            )
        )

    assert len(said) == 3
    assert _revision(engines_of_its_own["payment_service"]) == LATER
