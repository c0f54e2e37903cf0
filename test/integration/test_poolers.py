"""A service behind PgBouncer.

In session mode it works, in transaction mode it refuses to start in a sentence.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import URL, Engine, text
from sqlalchemy.exc import OperationalError

from payment_service import accounts
from payment_service.charge import Charge, give_back, take
from payment_service.schemas import NewUser
from service_chassis.database import UnsafeDatabase, check_database, connect, is_reachable
from shop.local.ports import LOOPBACK, Ports
from shop.local.postgres import Postgres
from two_phase.messages import Taken

from .conftest import DATABASE, PASSWORD

ROLE = "payment_service"
ID = "00000000-0000-7000-8000-000000000001"


def _pgbouncer() -> str:
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        reason = "PgBouncer is not installed: apt-get install pgbouncer"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return found


@pytest.fixture
def pooled(
    postgres: Postgres, admin: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Engine]]:
    """Return a function that starts a PgBouncer in a mode, and returns payment's connections through it."""
    assert admin
    program, folder = _pgbouncer(), tmp_path_factory.mktemp("pgbouncer")
    (folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')
    started: list[subprocess.Popen[bytes]] = []
    engines: list[Engine] = []
    with Ports() as ports:

        def start(mode: str) -> Engine:
            port = ports.reserve()
            configuration = folder / f"{mode}.ini"
            configuration.write_text(_configuration(postgres, folder, port, mode))
            command = [program, *_as_nobody(folder), str(configuration)]
            started.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            url = URL.create("postgresql+psycopg2", ROLE, PASSWORD, LOOPBACK, port, DATABASE)
            engine = connect(
                SecretStr(url.render_as_string(hide_password=False)), ROLE, pool_size=4
            )
            engines.append(engine)
            _until_answering(engine)
            return engine

        yield start
        for engine in engines:
            engine.dispose()
        for process in started:
            process.terminate()
            process.wait(10)


def _configuration(postgres: Postgres, folder: Path, port: int, mode: str) -> str:
    return f"""
[databases]
{DATABASE} = host={LOOPBACK} port={postgres.port}
[pgbouncer]
listen_addr = {LOOPBACK}
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users.txt
pool_mode = {mode}
"""


def _as_nobody(folder: Path) -> list[str]:
    """Return what PgBouncer needs to be started by root, which it refuses to work as."""
    if os.geteuid() != 0:
        return []
    for each in (folder, *folder.parents[:3]):
        if each != Path("/tmp"):  # noqa: S108 - the one folder that everybody may enter already
            each.chmod(0o755)
    return ["-u", "nobody"]


def _until_answering(engine: Engine) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            engine.connect().close()
        except OperationalError as error:
            if "refused" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def test_a_service_works_behind_a_pooler_in_session_mode(
    pooled: Callable[[str], Engine], admin: Engine
) -> None:
    """Its sessions have its settings, whatever the role says, and keep its prepared statements."""
    with admin.begin() as connection:
        connection.execute(text(f"ALTER ROLE {ROLE} SET transform_null_equals = on"))
    try:
        engine = pooled("session")
        check_database(engine, ROLE)
        with engine.begin() as connection:
            user_id = int(
                accounts.open_accounts(connection, [NewUser(name="Ivan", balance=0)])[0]["user_id"]
            )

        def deposit(_: int) -> None:
            with engine.begin() as connection:
                accounts.deposit(connection, user_id, 1, None)

        with ThreadPoolExecutor(4) as customers:
            list(customers.map(deposit, range(40)))
        for _ in range(2):
            with engine.begin() as connection:
                charge = [(ID, Charge(user_id=user_id, amount=1))]
                assert take(connection, charge) == [Taken()]
                give_back(connection, charge)
        with engine.connect() as connection:
            assert accounts.shown(connection, user_id)[0]["available"] == 40
        assert is_reachable(engine)
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"ALTER ROLE {ROLE} RESET ALL"))


def test_a_service_refuses_a_pooler_that_takes_its_session_away(
    pooled: Callable[[str], Engine],
) -> None:
    """One sentence that says what to set."""
    with pytest.raises(UnsafeDatabase, match="must work in session mode"):
        check_database(pooled("transaction"), ROLE)
