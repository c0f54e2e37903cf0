"""What a session of PostgreSQL means.

Every setting on which our statements or promises lean is set, and never inherited.

A server, a database or a role may have any of them otherwise. ``pin`` sets them on each new
connection in one round trip, by statement and not at the start of the connection: a pooler such as
PgBouncer refuses start options, or drops them in silence. docs/session_settings.md goes through all
settings of PostgreSQL 13 to 18, and says which are not here, and why.
"""

from collections.abc import Mapping
from typing import Any

from psycopg2 import Error as DriverError
from psycopg2 import OperationalError
from sqlalchemy import Connection, Engine, event, text

from two_phase.participant.sql_branches import LOCK_TIMEOUT
from two_phase.sql import PLANNING, session_is_lost

#: With another value a statement would mean something else, fail, or be answered in another form.
#: Written as SHOW writes it.
MEANING = {
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "bytea_output": "hex",
    "check_function_bodies": "on",
    "client_min_messages": "warning",
    "DateStyle": "ISO, MDY",
    "default_table_access_method": "heap",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "escape_string_warning": "on",
    "exit_on_error": "off",
    "extra_float_digits": "1",
    "IntervalStyle": "postgres",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "operator_precedence_warning": "off",
    "quote_all_identifiers": "off",
    "restrict_nonsystem_relation_kind": "",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
    "transform_null_equals": "off",
    "xmlbinary": "base64",
    "xmloption": "content",
}
#: A frozen client must not keep a row locked for ever (R1), a hung statement must not keep a
#: thread, what is committed is flushed, and a connection that waits in the pool lives.
LIMITS = {
    "idle_in_transaction_session_timeout": "2s",
    "idle_session_timeout": "0",
    "lock_timeout": LOCK_TIMEOUT,
    "statement_timeout": "10s",
    "synchronous_commit": "on",
    "transaction_timeout": "0",
    "debug_parallel_query": "off",
    "force_parallel_mode": "off",
    **PLANNING,
}
#: What a service's role may not set, and without which it does not work.
REQUIRED = {
    "client_encoding": ("UTF8", "texts would arrive as others"),
    "ignore_checksum_failure": ("off", "a damaged page would be read as if it were sound"),
    "session_replication_role": (
        "origin",
        "the triggers that hold the laws of the tables would not fire",
    ),
    "zero_damaged_pages": ("off", "a damaged page would be read as if it were empty"),
}

# A setting that this server does not have is left out. Nothing is looked up by a search_path that
# is not ours yet, and no statement_timeout that is not ours ends it.
_PIN = """
SET statement_timeout = 0;
SELECT pg_catalog.json_object_agg(wanted.name, CASE
    WHEN wanted.value IS NULL THEN pg_catalog.current_setting(wanted.name)
    WHEN pg_catalog.current_setting(wanted.name, true) IS NOT NULL
    THEN pg_catalog.set_config(wanted.name, wanted.value, false)
END) FROM (VALUES {}) AS wanted (name, value)
"""
_ROW = "('{}', {})"
_SESSION = text("""
    SELECT pg_backend_pid(), (
        SELECT json_object_agg(name, current_setting(name, true))
        FROM unnest(CAST(:names AS text[])) AS name
    )
""")


class UnsafeSession(OperationalError):  # type: ignore[misc] # the driver has no types
    """A setting that cannot be pinned is not as it must be.

    The connection is refused, like one that cannot be made.
    """


def pinned(schema: str) -> dict[str, str]:
    """Return the settings of sessions of the service that owns ``schema``."""
    return {**MEANING, **LIMITS, "search_path": schema}


def pin(engine: Engine, settings: Mapping[str, str]) -> None:
    """Set ``settings`` on every connection of ``engine``; drop one that lost them or only reads."""
    rows = [_ROW.format(name, f"'{value}'") for name, value in settings.items()]
    rows += [_ROW.format(name, "NULL") for name in REQUIRED]
    statement = _PIN.format(", ".join(rows))

    # Before anything that SQLAlchemy does: it asks each new server what these settings are, and
    # believes the answer.
    @event.listens_for(engine, "connect", insert=True)
    def set_up(connection: Any, _record: Any) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            found = cursor.fetchone()[0]
        connection.autocommit = False
        _check(found, settings)

    @event.listens_for(engine, "handle_error")
    def drop(context: Any) -> None:
        if isinstance(context.original_exception, DriverError) and session_is_lost(
            context.original_exception
        ):
            context.is_disconnect = True


def _check(found: Mapping[str, str | None], settings: Mapping[str, str]) -> None:
    for name, (value, consequence) in REQUIRED.items():
        if found[name] != value:
            raise UnsafeSession(
                f"PostgreSQL's sessions have {name} = {found[name]},"
                f" where {value} is needed: {consequence}"
            )
    for name, value in settings.items():
        if found[name] not in (value, None):
            raise UnsafeSession(
                f"PostgreSQL was told {name} = {value}, and says that it is {found[name]}"
            )


def check_sessions(first: Connection, second: Connection, settings: Mapping[str, str]) -> None:
    """Raise UnsafeSession unless two open connections are sessions of their own, as set up.

    Behind a pooler in transaction mode they are one session, or another one each time.
    """
    parameters = {"names": "{" + ",".join(settings) + "}"}
    sessions = []
    for connection in (first, second):
        pid, found = connection.execute(_SESSION, parameters).one()
        # Ends the transaction: such a pooler would now give the session to the other one.
        connection.rollback()
        sessions.append(pid)
        lost = [name for name, value in settings.items() if found[name] not in (value, None)]
        if lost:
            raise UnsafeSession(f"the sessions of PostgreSQL lose {', '.join(lost)}: {_POOLER}")
    if sessions[0] == sessions[1]:
        raise UnsafeSession(f"two connections share one session of PostgreSQL: {_POOLER}")


_POOLER = (
    "a pooler in front of it must work in session mode (pool_mode = session),"
    " because a service keeps its settings there"
)
