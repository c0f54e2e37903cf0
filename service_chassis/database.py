"""The connection to PostgreSQL.

A pool per service, its own schema, and the checks without which no promise holds.

A service works in the schema that has its name. Time limits are set per connection, because a
frozen client must not keep a row locked for ever (R1) and a hung statement must not keep a thread.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from psycopg2 import Error as DriverError
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service_chassis.sessions import UnsafeSession, check_sessions, pin, pinned
from two_phase.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What the failures of a database look like that says nothing of what was asked. Setting the
#: isolation level on a connection whose server has gone raises the driver's own error, past
#: SQLAlchemy.
DATABASE_FAILURES = (DBAPIError, PoolTimeoutError, PendingRollbackError, DriverError)

_UNDONE = {"40001", "40P01"}  # serialization failure, deadlock
_REPEATS_MAX = 4
_MUST_BE = {"fsync": "on", "full_page_writes": "on", "data_sync_retry": "off"}


class UnsafeDatabase(Exception):
    """This PostgreSQL may lose what it has called durable; no service of ours starts on it."""


def connect(url: SecretStr, schema: str, *, pool_size: int, autocommit: bool = False) -> Engine:
    """Return a pool of connections that work in ``schema``; nothing is connected yet.

    With ``autocommit`` each statement is a transaction of its own. To ask for that connection by
    connection would cost a round trip each time.
    """
    engine = create_engine(
        url.get_secret_value(),
        isolation_level="AUTOCOMMIT" if autocommit else None,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2,
        pool_pre_ping=False,
        pool_use_lifo=True,
        connect_args={
            "application_name": schema,
            "client_encoding": "UTF8",
            # Of several hosts the primary; a server that only reads is none.
            "target_session_attrs": "read-write",
            "connect_timeout": 2,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 11_000,
        },
    )
    pin(engine, pinned(schema))
    return engine


def check_durable(connection: Connection, *, standby_required: bool = False) -> None:
    """Raise UnsafeDatabase unless what is flushed survives a crash, and a required promotion."""
    found = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _MUST_BE}
    unsafe = [f"{name} = {value}" for name, value in found.items() if value != _MUST_BE[name]]
    if unsafe:
        raise UnsafeDatabase(
            f"PostgreSQL runs with {' and '.join(unsafe)}: a vote would be no promise"
        )
    if (
        standby_required
        and not connection.execute(text("SHOW synchronous_standby_names")).scalar_one()
    ):
        raise UnsafeDatabase(
            "PostgreSQL's synchronous_standby_names is empty, and SYNCHRONOUS_STANDBY_REQUIRED"
            " is set: a standby that takes over"
            " would not know the last decisions that were told"
        )


def check_database(engine: Engine, schema: str, *, standby_required: bool = False) -> None:
    """Raise UnsafeDatabase unless a service may work on the sessions of ``engine``."""
    try:
        with engine.connect() as connection, engine.connect() as another:
            check_durable(connection, standby_required=standby_required)
            encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
            if encoding != "UTF8":
                raise UnsafeDatabase(
                    f"the database has the encoding {encoding}, in which not every name can be"
                    " written: create it with ENCODING 'UTF8'"
                )
            check_sessions(connection, another, pinned(schema))
    except UnsafeSession as unsafe:
        raise UnsafeDatabase(str(unsafe)) from unsafe
    except DBAPIError as error:
        if isinstance(error.orig, UnsafeSession):
            raise UnsafeDatabase(str(error.orig)) from error
        raise


def is_reachable(engine: Engine) -> bool:
    """Return whether the database answers and takes what is written.

    A connection that only reads by now is dropped.
    """
    try:
        with engine.connect() as connection:
            read_only: bool = (
                connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
            )
            if read_only:
                connection.invalidate()
    except DATABASE_FAILURES:
        return False
    return not read_only


async def wait_for_schema(
    engine: Engine,
    service: str,
    is_current: Callable[[Connection], bool],
    *,
    standby_required: bool = False,
) -> None:
    """Return once the database answers and the schema is at this code's version or past it.

    Raises UnsafeDatabase.
    """

    def blocking_reason() -> str | None:
        try:
            check_database(engine, service, standby_required=standby_required)
            with engine.connect() as connection:
                return None if is_current(connection) else "its schema is not migrated yet"
        except DATABASE_FAILURES as failure:
            return f"its database does not answer: {str(failure).splitlines()[0]}"

    told = None
    while reason := await asyncio.to_thread(blocking_reason):
        if reason != told:
            log.warning("%s waits: %s", service, reason)
            told = reason
        await asyncio.sleep(0.2)


def repeated(work: Callable[[], T]) -> T:
    """Return what ``work``, one transaction, returns.

    It is run again where the server has undone it for the sake of another.
    """
    for _ in range(_REPEATS_MAX):
        try:
            return work()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in _UNDONE:
                raise
    return work()


def unavailable(failure: Exception) -> Unavailable:
    """Return what a caller is told of a database failure."""
    log.warning("the database gave no answer", extra={"why": str(failure).splitlines()[0]})
    return Unavailable("the database does not answer")
