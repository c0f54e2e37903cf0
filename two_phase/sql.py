"""Statements that PostgreSQL plans once per connection.

They are for what every transaction needs, and takes longer to plan than to do.

They travel as PREPARE and EXECUTE, straight through the driver: on the way through SQLAlchemy each
would cost as much again. A plan is kept for as long as its connection, so that it must not depend
on how large the tables were when it was made: a connection needs ``PLANNING``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from psycopg2 import Error as DriverError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from two_phase.messages import TransactionId

#: What makes plans last: one for all parameters, by index even where the table is still small, and
#: none worth compiling. A bitmap scan never marks the entries of an index that it finds dead: each
#: look at what is in doubt would read all rows again that ever were, until the next vacuum.
PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}

#: The server says that it only reads by now (a standby, a fenced primary), or does not know a
#: statement that was prepared: the session is not the one that was set up.
_LOST = {"25006", "26000"}

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_NUMBERS = count(1)


class Planned:
    """An SQL statement with parameters ``:name``, whose types its places or CASTs tell.

    See https://www.postgresql.org/docs/current/sql-prepare.html.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        names = list(dict.fromkeys(_PARAMETER.findall(text)))
        numbered = _PARAMETER.sub(lambda parameter: f"${names.index(parameter[1]) + 1}", text)
        name = f"planned_{next(_NUMBERS)}"
        #: What is sent first on each connection, and what is sent each time, in the driver's own
        #: writing.
        self.prepare = f"PREPARE {name} AS {numbered}"
        self.call = f"EXECUTE {name} ({', '.join(f'%({each})s' for each in names)})"

    def rows(
        self, connection: Connection, parameters: Mapping[str, Any]
    ) -> Sequence[tuple[Any, ...]]:
        """Execute it in the transaction of ``connection``, and return its rows.

        Raises what SQLAlchemy would raise.
        """
        cursor = connection.connection.cursor()
        planned = connection.info.setdefault(Planned, set())
        try:
            if self not in planned:
                cursor.execute(self.prepare)
                planned.add(self)
            cursor.execute(self.call, parameters)
            return cursor.fetchall() if cursor.description else ()
        except DriverError as error:
            raise _reported(connection, error, self.text, parameters) from error


def session_is_lost(error: DriverError) -> bool:
    """Return whether ``error`` says that its connection is of no use, although it answers."""
    return error.pgcode in _LOST


def _reported(
    connection: Connection, error: DriverError, statement: str, parameters: Mapping[str, Any]
) -> Exception:
    """Return the error as SQLAlchemy reports it.

    When the server has gone, no connection of the pool is used again.
    """
    dialect = connection.dialect
    gone = session_is_lost(error) or dialect.is_disconnect(error, connection.connection, None)
    if gone:
        connection.invalidate(error)
        connection.engine.dispose()
    reported = DBAPIError.instance(
        statement, parameters, error, DriverError, connection_invalidated=gone, dialect=dialect
    )
    assert isinstance(reported, Exception)
    return reported


def id_array(ids: Sequence[TransactionId]) -> str:
    """Return ``ids`` as a PostgreSQL array literal.

    Cheaper to bind than a list, which psycopg2 writes out as ARRAY[...].
    """
    return "{" + ",".join(ids) + "}"


def bigint_array(numbers: Iterable[int]) -> str:
    """Return ``numbers`` as a PostgreSQL array literal."""
    return "{" + ",".join(map(str, numbers)) + "}"
