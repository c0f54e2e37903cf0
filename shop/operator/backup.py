"""Backup and restore of all schemas, with PostgreSQL's own tools and in its own format.

back up one pg_dump reads all in one snapshot, whatever is under way meanwhile: one moment of
the whole shop restore pg_restore writes SQL, and psql runs it in one transaction: all that was
asked for comes back, or nothing changes

Owners are not restored: what comes back belongs to the role that owns the schema where it comes
back to.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from shop.local import environment
from shop.local.database import connected
from shop.project import CannotRun
from shop.topology import COORDINATOR, PACKAGES

LOG = COORDINATOR.package
_LOOK_SECONDS = 0.1
_LAST_WORDS_SECONDS = 0.5
_CREATED = re.compile(r"Archive created at (.+)")
_TABLE = re.compile(r" TABLE (\w+) alembic_version ")
_ROLES = text("""
    SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = ANY (:services)
""")
_CLIENTS = text("""
    SELECT DISTINCT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = ANY (:services) ORDER BY 1
""")


@dataclass(frozen=True)
class Archive:
    """A backup: when it was made, and whose schemas it has."""

    file: Path
    created: str
    services: frozenset[str]


def major_of(database: URL) -> int:
    """Return the server's version; raises CannotRun."""
    try:
        with connected(database) as connection:
            return int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    except DBAPIError as error:
        raise CannotRun(f"the database does not let us in: {error.orig}") from None


def back_up(database: URL, tools: Path, file: Path, watch: Callable[[int], None]) -> Archive:
    """Write all schemas into ``file``, and tell ``watch`` how large it is meanwhile.

    Raises CannotRun.

    Customers' names and what they bought are in it, so that nobody but its owner may read it. It
    has its name once it is whole.
    """
    if file.exists():
        raise CannotRun(f"{file} is there already")
    making = file.with_name(f"{file.name}.part")
    command: list[Path | str] = [
        tools / "pg_dump",
        "--format=custom",
        "--strict-names",
        *(f"--schema={service}" for service in PACKAGES),
    ]
    try:
        with os.fdopen(
            os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
        ) as output:
            with _running(
                [*command, f"--dbname={_address(database)}"], database, stdout=output
            ) as dump:
                while dump.poll() is None:
                    watch(making.stat().st_size)
                    time.sleep(_LOOK_SECONDS)
            os.fsync(output.fileno())
        made = contents(making, tools)
        if made.services != frozenset(PACKAGES):
            raise CannotRun(
                f"the database has only {', '.join(sorted(made.services))}: is the shop migrated?"
            )
        making.rename(file)
    except OSError as error:
        raise CannotRun(f"{file} cannot be written: {error}") from None
    finally:
        making.unlink(missing_ok=True)
    return Archive(file, made.created, made.services)


def contents(file: Path, tools: Path) -> Archive:
    """Return what is in a backup; raises CannotRun if it is none."""
    said = subprocess.run(  # noqa: S603 - a program that we have found
        [tools / "pg_restore", "--list", file],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    created = _CREATED.search(said.stdout)
    if said.returncode or not created:
        raise CannotRun(f"{file} is no backup that can be read: {said.stderr.strip()}")
    return Archive(file, created[1], frozenset(_TABLE.findall(said.stdout)) & frozenset(PACKAGES))


def restore(
    database: URL,
    tools: Path,
    archive: Archive,
    services: Collection[str],
    say: Callable[[str], None],
) -> None:
    """Replace the schemas of ``services`` by those in the backup, all in one transaction.

    Raises CannotRun.

    A log that comes back alone gets a new generation (R12): it has forgotten decisions, so nobody
    may take an order that it does not know for a cancelled one.
    """
    missing = sorted(set(services) - archive.services)
    if missing:
        raise CannotRun(f"{archive.file} has no {', '.join(missing)}")
    roles = _roles(database)
    _refuse_while_in_use(database)
    log_alone = LOG in services and set(services) != set(PACKAGES)
    generation = _highest_generation(database) if log_alone else None
    options = ("--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--single-transaction")
    command: list[Path | str] = [
        tools / "psql",
        *options,
        "--file=-",
        f"--dbname={_address(database)}",
    ]
    with _running(command, database, stdin=subprocess.PIPE) as psql:
        assert psql.stdin is not None
        for service in services:
            say(f"{service} comes back")
            _replace(psql.stdin, tools, archive, service, roles[service])
        if generation is not None:
            _write(
                psql.stdin,
                f"UPDATE {LOG}.log_state SET generation = greatest(generation, {generation}) + 1;",  # noqa: S608
            )
        psql.stdin.close()


def _replace(psql: IO[bytes], tools: Path, archive: Archive, service: str, role: str) -> None:
    begin = f'DROP SCHEMA {service} CASCADE; CREATE SCHEMA {service} AUTHORIZATION "{role}"; SET ROLE "{role}";'
    _write(psql, begin)
    command: list[Path | str] = [
        tools / "pg_restore",
        "--no-owner",
        "--no-privileges",
        f"--schema={service}",
        "--file=-",
        archive.file,
    ]
    with _running(command, stdout=psql):
        pass
    _write(psql, "RESET ROLE;")


def _write(psql: IO[bytes], statement: str) -> None:
    psql.write(f"{statement}\n".encode())
    psql.flush()


@contextmanager
def _running(
    command: Sequence[Path | str],
    database: URL | None = None,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program inside the block and wait for its end behind it.

    Raises CannotRun with its own words if it fails.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603 - a program that we have found
            command, stdin=stdin, stdout=stdout, stderr=complaints, env=_environment(database)
        )
        try:
            yield process
        except BaseException:
            # psql must not see the end of its input, for it would commit what is only a part. Where
            # the block failed because psql has ended, its own words say why.
            if not _has_failed(process):
                raise
        process.wait()
        if process.returncode:
            complaints.seek(0)
            raise CannotRun(
                f"{Path(command[0]).name} failed: {complaints.read().decode(errors='replace').strip()}"
            )


def _has_failed(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the program has ended by itself; it has ended in any case."""
    try:
        return process.wait(_LAST_WORDS_SECONDS) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def _roles(database: URL) -> dict[str, str]:
    with connected(database) as connection:
        rows = connection.execute(_ROLES, {"services": list(PACKAGES)}).all()
    roles = {str(schema): str(role) for schema, role in rows}
    if roles.keys() != set(PACKAGES):
        missing = ", ".join(sorted(set(PACKAGES) - roles.keys()))
        raise CannotRun(
            f"the database {database.database} has no schema {missing}, so nobody could own what comes back"
        )
    return roles


def _refuse_while_in_use(database: URL) -> None:
    """Raise CannotRun while services are connected.

    What they know by heart would contradict what comes back.
    """
    with connected(database) as connection:
        clients = connection.execute(_CLIENTS, {"services": list(PACKAGES)}).scalars().all()
    if clients:
        raise CannotRun(f"{', '.join(clients)} still work on the database: stop all services first")


def _highest_generation(database: URL) -> int:
    """Return the highest generation that any schema has heard of."""
    tables = [
        f"{LOG}.log_state",
        *(f"{service}.branches" for service in PACKAGES if service != LOG),
    ]
    with connected(database) as connection:
        known = [
            each
            for each in tables
            if connection.execute(text("SELECT to_regclass(:t)"), {"t": each}).scalar_one()
        ]
        # The names are constants of this module.
        highest = [
            connection.execute(text(f"SELECT max(generation) FROM {each}")).scalar_one()  # noqa: S608
            for each in known
        ]
    return max((int(each) for each in highest if each is not None), default=0)


def _address(database: URL) -> str:
    """Return libpq's words for the database without the password: other users can read it."""
    plain = URL.create(
        "postgresql",
        database.username,
        None,
        database.host,
        database.port,
        database.database,
        database.query,
    )
    return plain.render_as_string(hide_password=False)


def _environment(database: URL | None = None) -> dict[str, str]:
    password = (
        {"PGPASSWORD": str(database.password)} if database is not None and database.password else {}
    )
    return {**environment.of_a_postgresql_tool(), "TZ": "UTC", **password}
