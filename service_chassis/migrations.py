"""The body that all services' migrations share: alembic, in the schema that has the service's name.

``config/alembic.ini`` has a section per service, and each ``migrations/env.py`` calls ``run``.
Revisions are numbered, so that a service knows by file names alone which one it needs, and by the
number alone that a schema is past what it knows.

A schema may be newer than the code: old processes run on while the next release migrates, and after
a rollback. That is no failure, because migrations only expand (docs/migrations.md); older code
leaves such a schema as it is.
"""

import logging
import os
import time
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from service_chassis.database import connect
from service_chassis.database_url import database_url

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = 2_026_112_5
_LOOK_SECONDS = 0.1


def run(service: str) -> None:
    """Migrate the schema of ``service`` in the database of DATABASE_URL.

    Only alembic calls this.
    """
    from alembic import context

    if context.is_offline_mode():
        raise SystemExit("migrations need a database; write SQL with pg_dump from a migrated one")
    engine = connect(_address(), service, pool_size=1)
    try:
        with engine.connect() as connection:
            _prepare(connection, service)
            context.configure(
                connection=connection, version_table_schema=service, transaction_per_migration=True
            )
            newest = context.get_head_revision()
            found = context.get_context().get_current_revision()
            connection.commit()
            if not _is_past(found, str(newest), service):
                with context.begin_transaction():
                    context.run_migrations()
                connection.commit()
    finally:
        engine.dispose()


def _address() -> SecretStr:
    try:
        url = database_url(
            os.environ.get("DATABASE_URL", ""), os.environ.get("DATABASE_PASSWORD", "")
        )
    except ValueError as reason:
        raise SystemExit(f"DATABASE_URL: {reason}") from None
    return SecretStr(url.render_as_string(hide_password=False))


def _prepare(connection: Connection, service: str) -> None:
    """Take the turn of this process and make the schema, if it is not there."""
    # A migration may take longer than any statement of a service.
    connection.execute(text("SET statement_timeout = 0"))
    _take_turn(connection, service)
    # Whoever wants a table that a migration waits for waits behind it: no longer than a service
    # waits for a lock. The migration fails then, has changed nothing, and is run again.
    connection.execute(text("SET lock_timeout = '2s'"))
    if (
        connection.execute(
            text("SELECT to_regnamespace(:schema)"), {"schema": service}
        ).scalar_one()
        is None
    ):
        connection.execute(text(f'CREATE SCHEMA "{service}"'))
    connection.commit()


def _take_turn(connection: Connection, service: str) -> None:
    """Wait until no other process migrates.

    The turn ends with the connection, however many revisions it takes.
    """
    told = False
    while not connection.execute(
        text("SELECT pg_try_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME}
    ).scalar_one():
        # Not by a statement that waits: an index that is built concurrently waits for every
        # statement, and so for that one.
        connection.commit()
        if not told:
            log.warning("the migration of %s waits for another one", service)
        told = True
        time.sleep(_LOOK_SECONDS)


def is_current(connection: Connection, service: str) -> bool:
    """Return whether the schema is at the newest revision in the service's folder, or past it."""
    newest = max(path.stem.split("_")[0] for path in _versions(service).glob("[0-9]*.py"))
    try:
        found = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar_one_or_none()
    except ProgrammingError:
        connection.rollback()
        return False
    return found == newest or _is_past(found, newest, service)


def _is_past(found: str | None, newest: str, service: str) -> bool:
    """Return whether only newer code knows the revision ``found``, and say so."""
    if found is None or found <= newest:
        return False
    log.warning(
        "the schema %s is at %s, and this code knows revisions up to %s only: it is left as it is",
        service,
        found,
        newest,
    )
    return True


def _versions(service: str) -> Path:
    return Path(__file__).parents[1] / service / "migrations" / "versions"
