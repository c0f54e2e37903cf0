"""`shop backup` and `shop restore`.

Find the database, show the progress, and tell what was done and what follows from it.

The local run's database is that of SHOP_DATA. It is backed up while the shop runs or while it does
not; it is restored only while it does not, on a server that is started for that alone. DATABASE_URL
leads to any other: to the shop's database itself, or to a server on which `shop up` has made one
for SHOP_DATA.
"""

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from shop.local import postgres_binaries
from shop.local.data_folder import DataFolder
from shop.local.database import ShopDatabase, admin_url, connected
from shop.local.ports import Ports
from shop.local.postgres import ADMIN, Postgres, account_for, major_of
from shop.operator import backup
from shop.project import CannotRun
from shop.topology import PACKAGES, in_words

_ALL = f"all {in_words(len(PACKAGES))} schemas"
_ALL_BACK = """\
{services} as of {created}. Orders placed after that are gone everywhere alike, also those that customers were told of.
Start the shop: what was in doubt at that moment asks the log and is resolved. `shop audit` should find nothing."""
_PART_BACK = """\
{services} as of {created}, and the other schemas are not: every order decided after that moment contradicts.
Start the shop: it takes no new orders until `shop reconcile` has brought back what the log knows.
Deposits and restocks after that moment are gone."""
_LOG_BACK = """\
{services} as of {created}, and the log has a new generation: it has forgotten orders that participants have carried out.
Nobody takes an order that it does not know for a cancelled one: what is in doubt stays held until a person decides.
Start the shop: it takes no new orders until `shop reconcile` has brought back what the participants know."""


@dataclass(frozen=True)
class Options:
    """What the operator has asked for."""

    file: Path
    data: Path
    database_url: str | None
    pg_bin_dir: Path | None


def back_up(options: Options) -> None:
    """Make a backup; raises CannotRun."""
    with _found(options, restoring=False) as database, _progress() as tell:
        tools = postgres_binaries.tools(backup.major_of(database), options.pg_bin_dir)
        archive = backup.back_up(
            database, tools, options.file, lambda size: tell(f"backing up, {size / 1000:,.0f} kB")
        )
    size_kb = archive.file.stat().st_size / 1000
    typer.echo(f"{archive.file}: {_ALL} as of {archive.created}, {size_kb:,.0f} kB")


def restore(options: Options, services: Collection[str], *, is_sure: bool) -> None:
    """Bring schemas back; raises CannotRun."""
    if not options.file.is_file():
        raise CannotRun(f"there is no file {options.file}")
    chosen = [service for service in PACKAGES if not services or service in services]
    if not is_sure:
        _ask(chosen)
    with _found(options, restoring=True) as database, _progress() as tell:
        tools = postgres_binaries.tools(backup.major_of(database), options.pg_bin_dir)
        archive = backup.contents(options.file, tools)
        backup.restore(
            database, tools, archive, chosen, lambda service: tell(f"restoring {service}")
        )
    told = (
        _ALL_BACK
        if len(chosen) == len(PACKAGES)
        else _LOG_BACK
        if backup.LOG in chosen
        else _PART_BACK
    )
    verb = "is" if len(chosen) == 1 else "are"
    typer.echo(told.format(created=archive.created, services=f"{_named(chosen)} {verb}"))


def _ask(chosen: list[str]) -> None:
    if not sys.stdin.isatty():
        raise CannotRun(
            f"what {_named(chosen)} hold now would be replaced: say --yes if that is meant"
        )
    typer.confirm(f"What {_named(chosen)} hold now will be replaced. Go on?", abort=True)


def _named(chosen: list[str]) -> str:
    return _ALL if len(chosen) == len(PACKAGES) else " and ".join(chosen)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("looking at the database", total=None)
        yield lambda words: bar.update(task, description=words)


@contextlib.contextmanager
def _found(options: Options, *, restoring: bool) -> Iterator[URL]:
    """Yield the administrator's address of the shop's database, as long as it can be reached there; raises CannotRun."""
    data = DataFolder(options.data)
    if options.database_url:
        yield _on_named_server(admin_url(options.database_url), data)
    elif data.has_secrets and not data.postgres.exists():
        raise CannotRun(
            f"the shop on {data.root} has no PostgreSQL of its own: set DATABASE_URL, or another SHOP_DATA"
        )
    elif not restoring and not data.has_secrets:
        raise CannotRun(f"no shop has run on {data.root}: set SHOP_DATA, or DATABASE_URL")
    elif not restoring and (running := _running(data)):
        yield running
    else:
        with _own_server(data, options.pg_bin_dir) as started:
            yield started


def _on_named_server(admin: URL, data: DataFolder) -> URL:
    if _has_schemas(admin):
        return admin
    if not data.has_secrets:
        raise CannotRun(
            f"the database {admin.database} that DATABASE_URL names has no schemas of the shop"
        )
    secrets = data.secrets()
    database = ShopDatabase(admin, secrets, suffix=f"_{secrets['database_suffix']}")
    database.provide()
    return admin.set(database=database.name)


def _has_schemas(database: URL) -> bool:
    try:
        with connected(database) as connection:
            found = connection.execute(
                text("SELECT to_regnamespace(:schema)"), {"schema": backup.LOG}
            ).scalar_one()
            return found is not None
    except DBAPIError as error:
        raise CannotRun(
            f"the server that DATABASE_URL names does not let us in: {error.orig}"
        ) from None


def _running(data: DataFolder) -> URL | None:
    """Return where the database of a shop that runs is reached."""
    with contextlib.suppress(FileNotFoundError, DBAPIError):
        server = data.addresses()["postgres"]
        admin = URL.create(
            "postgresql+psycopg2",
            ADMIN,
            data.secrets()["postgres"],
            server["host"],
            server["port"],
            "shop",
        )
        connected(admin).close()
        return admin
    return None


@contextlib.contextmanager
def _own_server(data: DataFolder, pg_bin_dir: Path | None) -> Iterator[URL]:
    """Start the local run's PostgreSQL for as long as the block lasts.

    The shop cannot be started meanwhile.
    """
    data.prepare()
    with data.locked(), Ports() as ports:
        secrets = data.secrets()
        binaries = postgres_binaries.find(
            account_for(data.postgres), major_of(data.postgres), pg_bin_dir
        )
        server = Postgres(binaries, data.postgres, ports.reserve(), secrets["postgres"])
        server.create()
        server.start(data.log("postgres"))
        try:
            database = ShopDatabase(server.url(), secrets)
            database.provide()
            yield server.url(database.name)
        finally:
            server.stop()
