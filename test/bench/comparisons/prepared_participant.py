"""A participant on the database's own two-phase commit.

PREPARE TRANSACTION, then COMMIT PREPARED, through psycopg2.

The row lock lives from the prepare to the commit, over the network and the decision. Two orders
that hold each other's rows at two participants wait for each other, and no database can see it:
only a lock time-out ends that, and one of them is refused. Commits have connections of their own,
because all others may be waiting for just these commits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import LifoQueue
from uuid import UUID

import psycopg2
from fastapi import FastAPI
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from comparisons.branch import Answer, Prepare, Settle

PARTICIPANT = os.environ["PARTICIPANT"]
SCHEMA = os.environ["SCHEMA"]
TAKE = f"UPDATE {SCHEMA}.{PARTICIPANT}_resources SET available = available - %s WHERE id = %s AND available >= %s"
KEEP = f"INSERT INTO {SCHEMA}.{PARTICIPANT}_branches (order_id, resource_id, amount, state) VALUES (%s, %s, %s, 'committed')"

POOL_SIZE = int(os.environ.get("POOL_SIZE", "10"))
LOCK_TIMEOUT = "-c lock_timeout=500ms"


def _pool() -> LifoQueue[Connection]:
    pool: LifoQueue[Connection] = LifoQueue()
    for _ in range(POOL_SIZE):
        dsn = os.environ["DATABASE_URL"].replace("postgresql+psycopg2", "postgresql")
        pool.put(psycopg2.connect(dsn, options=LOCK_TIMEOUT))
    return pool


app = FastAPI()
preparing = _pool()
settling = _pool()


@contextmanager
def connected(pool: LifoQueue[Connection]) -> Iterator[Connection]:
    """Lend a connection, and take it back in a clean state."""
    connection = pool.get()
    try:
        yield connection
    finally:
        connection.reset()
        pool.put(connection)


def _name(order_id: UUID) -> str:
    return f"{PARTICIPANT}:{order_id}"


@app.post("/prepare")
def prepare(wanted: Prepare) -> Answer:
    """Do the work of the branch and prepare the transaction in which it was done."""
    with connected(preparing) as connection, connection.cursor() as cursor:
        connection.tpc_begin(connection.xid(0, _name(wanted.order_id), PARTICIPANT))
        try:
            cursor.execute(TAKE, (wanted.amount, wanted.id, wanted.amount))
        except psycopg2.errors.LockNotAvailable:
            connection.tpc_rollback()
            return Answer(ok=False)
        if cursor.rowcount == 0:
            connection.tpc_rollback()
            return Answer(ok=False)
        cursor.execute(KEEP, (str(wanted.order_id), wanted.id, wanted.amount))
        connection.tpc_prepare()
    return Answer(ok=True)


@app.post("/commit")
def commit(settled: Settle) -> Answer:
    """Commit the prepared transaction, by whatever connection is free."""
    with connected(settling) as connection:
        connection.tpc_commit(connection.xid(0, _name(settled.order_id), PARTICIPANT))
    return Answer(ok=True)


@app.post("/abort")
def abort(settled: Settle) -> Answer:
    """Roll the prepared transaction back, if there is one."""
    with connected(settling) as connection:
        try:
            connection.tpc_rollback(connection.xid(0, _name(settled.order_id), PARTICIPANT))
        except psycopg2.errors.UndefinedObject:
            return Answer(ok=True)
    return Answer(ok=True)
