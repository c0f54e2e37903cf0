"""Connections that only read by now, or have lost what was set up, are dropped or found."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from integration.payment_role import ROLE, deposit, new_account, payment_engine_of
from payment_service import accounts
from service_chassis.database import UnsafeDatabase, check_database, is_reachable
from shop.local.postgres import Postgres
from two_phase.sql import Planned


def test_a_session_that_lost_its_settings_is_found_at_the_start(postgres: Postgres) -> None:
    """A pooler that gives a session to others, or takes what was set from it, would do so."""
    with payment_engine_of(postgres) as engine:
        check_database(engine, ROLE)
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = 0"))
            connection.commit()

        with pytest.raises(UnsafeDatabase, match=r"lose lock_timeout: .*session mode"):
            check_database(engine, ROLE)


_WRITE = Planned(
    "UPDATE accounts SET available = available WHERE user_id = CAST(:user_id AS bigint)"
)


@pytest.mark.parametrize(
    "write",
    [
        lambda connection, user_id: _WRITE.rows(connection, {"user_id": user_id}),
        lambda connection, user_id: accounts.deposit(connection, user_id, 1, None),
    ],
    ids=["prepared", "by SQLAlchemy"],
)
def test_a_connection_that_only_reads_by_now_is_dropped_and_comes_back(
    postgres: Postgres,
    admin: Engine,
    altered: Callable[[str, str], bool],
    write: Callable[[Connection, int], object],
) -> None:
    """A fenced primary is obeyed: nothing is written, the service is not ready.

    And it is again when the fence is gone.
    """
    with payment_engine_of(postgres) as engine:
        user_id = new_account(engine)
        assert is_reachable(engine)
        with engine.connect() as connection:
            connection.execute(text("SET default_transaction_read_only = on"))
            connection.commit()
        assert altered("default_transaction_read_only", "on")

        with engine.connect() as connection, pytest.raises(DBAPIError) as failure:
            write(connection, user_id)
        assert failure.value.connection_invalidated
        assert not is_reachable(engine)

        with admin.begin() as connection:
            connection.execute(text(f"ALTER ROLE {ROLE} RESET ALL"))
        assert is_reachable(engine)
        assert deposit(engine, user_id, 1, None)["balance"] == 1


def test_a_service_is_not_ready_on_connections_that_only_read(
    postgres: Postgres, admin: Engine
) -> None:
    """It notices before a customer does, by the question that makes it ready."""
    with payment_engine_of(postgres) as engine:
        assert is_reachable(engine)
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SYSTEM SET default_transaction_read_only = on"))
            connection.execute(text("SELECT pg_reload_conf()"))
            try:
                _until(lambda: not is_reachable(engine))
            finally:
                connection.execute(text("SET default_transaction_read_only = off"))
                connection.execute(text("ALTER SYSTEM RESET default_transaction_read_only"))
                connection.execute(text("SELECT pg_reload_conf()"))
        _until(lambda: is_reachable(engine))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
