"""The body that all services' migrations share: alembic, in the schema that has the service's name.

``config/alembic.ini`` has a section per service, and each ``migrations/env.py`` calls ``run``. Revisions are numbered, so
that a service knows by file names alone which one it needs.
"""

import os
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from two_phase.hosting.database import connect

_ONE_AT_A_TIME = 2_026_112_5


def run(service: str) -> None:
    """Migrate the schema of ``service`` in the database that DATABASE_URL names; only alembic calls this."""
    from alembic import context

    if context.is_offline_mode():
        raise SystemExit("migrations need a database; write SQL with pg_dump from a migrated one")
    engine = connect(SecretStr(os.environ["DATABASE_URL"]), service, pool_size=1)
    with engine.connect() as connection:
        # A migration may take longer than any statement of a service.
        connection.execute(text("SET statement_timeout = 0; SET lock_timeout = '10s'"))
        if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": service}).scalar_one() is None:
            connection.execute(text(f'CREATE SCHEMA "{service}"'))
        connection.commit()
        context.configure(connection=connection, version_table_schema=service, transaction_per_migration=True)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
            context.run_migrations()
        connection.commit()
    engine.dispose()


def is_current(connection: Connection, service: str) -> bool:
    """Return whether the schema is at the newest revision in the service's folder, or at one that only newer code knows."""
    revisions = sorted(path.stem.split("_")[0] for path in _versions(service).glob("[0-9]*.py"))
    try:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except ProgrammingError:
        connection.rollback()
        return False
    return found is not None and (found == revisions[-1] or found not in revisions)


def _versions(service: str) -> Path:
    return Path(__file__).parents[2] / service / "migrations" / "versions"
