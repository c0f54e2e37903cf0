"""The connection to PostgreSQL: a pool per service, its own schema, and the checks without which no promise holds.

A service works in the schema that has its name. Time limits are set per connection, because a frozen client must not keep a
row locked for ever (R1) and a hung statement must not keep a thread.
"""

import asyncio
import logging
from collections.abc import Callable

from psycopg2 import Error as DriverError
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from two_phase.protocol import Unavailable
from two_phase.statements import PLANNING

log = logging.getLogger(__name__)

#: What the failures of a database look like that says nothing of what was asked. Setting the isolation level on a connection
#: whose server has gone raises the driver's own error, past SQLAlchemy.
DATABASE_FAILURES = (DBAPIError, PoolTimeoutError, PendingRollbackError, DriverError)

_SESSION = {
    "idle_in_transaction_session_timeout": "2s",
    "lock_timeout": "2s",
    "statement_timeout": "10s",
    "application_name": "{schema}",
    "search_path": "{schema}",
    "synchronous_commit": "on",
    **PLANNING,
}
_MUST_BE_ON = ("fsync", "full_page_writes")


class UnsafeDatabase(Exception):
    """This PostgreSQL may lose what it has called durable; no service of ours starts on it."""


def connect(url: SecretStr, schema: str, *, pool_size: int, autocommit: bool = False) -> Engine:
    """Return a pool of connections that work in ``schema``; nothing is connected yet.

    With ``autocommit`` each statement is a transaction of its own. To ask for that connection by connection would cost a round
    trip each time.
    """
    options = " ".join(f"-c{name}={value.format(schema=schema)}" for name, value in _SESSION.items())
    return create_engine(
        url.get_secret_value(),
        isolation_level="AUTOCOMMIT" if autocommit else None,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2,
        pool_pre_ping=False,
        pool_use_lifo=True,
        connect_args={
            "options": options,
            "connect_timeout": 2,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )


def check_durable(connection: Connection, *, standby_required: bool = False) -> None:
    """Raise UnsafeDatabase unless what this server has flushed survives a crash, and its promotion if a standby is required."""
    off = [name for name in _MUST_BE_ON if connection.execute(text(f"SHOW {name}")).scalar_one() != "on"]
    if off:
        raise UnsafeDatabase(
            f"PostgreSQL runs with {' and '.join(f'{name} = off' for name in off)}: a vote would be no promise"
        )
    if standby_required and not connection.execute(text("SHOW synchronous_standby_names")).scalar_one():
        raise UnsafeDatabase(
            "PostgreSQL's synchronous_standby_names is empty, and SYNCHRONOUS_STANDBY_REQUIRED is set: a standby that takes over"
            " would not know the last decisions that were told"
        )


def is_reachable(engine: Engine) -> bool:
    """Return whether the database answers."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except DATABASE_FAILURES:
        return False
    return True


async def wait_for_schema(
    engine: Engine, service: str, is_current: Callable[[Connection], bool], *, standby_required: bool = False
) -> None:
    """Return once the database answers and the schema is at this code's version or past it; raises UnsafeDatabase."""

    def obstacle() -> str | None:
        try:
            with engine.connect() as connection:
                check_durable(connection, standby_required=standby_required)
                return None if is_current(connection) else "its schema is not migrated yet"
        except DATABASE_FAILURES as failure:
            return f"its database does not answer: {str(failure).splitlines()[0]}"

    told = None
    while reason := await asyncio.to_thread(obstacle):
        if reason != told:
            log.warning("%s waits: %s", service, reason)
            told = reason
        await asyncio.sleep(0.2)


def unavailable(failure: Exception) -> Unavailable:
    """Return what a caller is told of a database failure."""
    log.warning("the database gave no answer", extra={"why": str(failure).splitlines()[0]})
    return Unavailable("the database does not answer")
