"""Sessions mean what the code means, whatever a server, a database or a role says.

Each setting of docs/session_settings.md is set against us here, and each one that our sessions set
is in that table.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from hostile_settings import AGAINST_US
from integration.payment_role import ROLE, balance_of, deposit, new_account, payment_engine_of
from payment_service import accounts
from service_chassis.database import UnsafeDatabase, check_database, is_reachable, repeated
from service_chassis.sessions import LIMITS, MEANING, REQUIRED, pinned
from shop.local.postgres import Postgres

from .conftest import DATABASE, PASSWORD

PAGE = Path(__file__).parents[2] / "docs" / "session_settings.md"


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("name", AGAINST_US)
def test_a_setting_of_the_role_does_not_reach_our_sessions(
    postgres: Postgres, altered: Callable[[str, str], bool], name: str, *, autocommit: bool
) -> None:
    """Every new session has our value.

    And what the role says does reach others, so that this test can fail.
    """
    if not altered(name, AGAINST_US[name]):
        pytest.skip("this server has no such setting")
    url = postgres.url(DATABASE, ROLE, PASSWORD)
    with payment_engine_of(postgres, autocommit=autocommit) as ours, ours.connect() as connection:
        theirs = ours.dialect.loaded_dbapi.connect(
            host=url.host, port=url.port, user=ROLE, password=PASSWORD, dbname=DATABASE
        )
        found = connection.scalar(text("SELECT current_setting(:name)"), {"name": name})
        connection.rollback()
        again = connection.scalar(text("SELECT current_setting(:name)"), {"name": name})
        with theirs.cursor() as cursor:
            if name != "statement_timeout":
                cursor.execute(f"SHOW {name}")
                inherited = cursor.fetchone()[0]
            else:
                inherited = "1ms"
        theirs.close()

    wanted = pinned(ROLE)[name]
    assert (found, again) == (wanted, wanted)
    assert inherited != wanted


def test_every_setting_of_a_session_is_tried_and_stands_in_the_table() -> None:
    """The code says what is set; the page and this file follow it."""
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", page, re.MULTILINE))
    set_by_us = {**MEANING, **LIMITS}

    assert set(AGAINST_US) == {*set_by_us, "search_path"}
    assert {name: rows.get(name) for name in set_by_us} == set_by_us
    assert {name: rows.get(name) for name in REQUIRED} == {
        name: value for name, (value, _) in REQUIRED.items()
    }


def test_every_setting_of_this_server_has_a_line(admin: Engine) -> None:
    """A release that brings a new setting for sessions makes this fail, until the page says what it means for us."""
    with admin.connect() as connection:
        found = connection.scalars(
            text(
                "SELECT name FROM pg_settings WHERE context IN ('user', 'superuser', 'backend') AND name NOT LIKE '%.%'"
            )
        )
        named = set(re.findall(r"`(\w+)`", PAGE.read_text()))

        assert sorted(set(found) - named) == []


def test_a_deposit_without_a_key_is_credited_where_null_equals_null(
    postgres: Postgres, altered: Callable[[str, str], bool]
) -> None:
    """With transform_null_equals, `key = NULL` would find an earlier deposit without a key, and nothing would be added."""
    assert altered("transform_null_equals", "on")
    with payment_engine_of(postgres) as engine:
        user_id = new_account(engine)
        answers = [deposit(engine, user_id, 10, None) for _ in range(3)]

        assert [each["balance"] for each in answers] == [10, 20, 30]
        assert balance_of(engine, user_id) == 30


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_deposits_side_by_side_all_succeed_whatever_the_default_isolation_is(
    postgres: Postgres, altered: Callable[[str, str], bool], level: str
) -> None:
    """A hundred deposits on one account wait for each other.

    None is undone for the sake of another.
    """
    assert altered("default_transaction_isolation", level)
    with payment_engine_of(postgres) as engine, ThreadPoolExecutor(10) as customers:
        user_id = new_account(engine)
        list(customers.map(lambda key: deposit(engine, user_id, 1, str(key)), range(100)))

        assert balance_of(engine, user_id) == 100


def test_a_refused_statement_leaves_the_session_alive(
    postgres: Postgres, altered: Callable[[str, str], bool]
) -> None:
    """With exit_on_error, every constraint that holds would cost a connection."""
    assert altered("exit_on_error", "on")
    with payment_engine_of(postgres) as engine, engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with pytest.raises(DBAPIError, match="account_not_overdrawn"):
            connection.execute(
                text("INSERT INTO accounts (name, opening, available) VALUES ('', -1, -1)")
            )
        connection.rollback()

        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid


def test_what_was_undone_for_the_sake_of_another_is_done_again(payment_engine: Engine) -> None:
    """Nothing was written then, so that nothing is done twice; anything else is told."""
    user_id = new_account(payment_engine)
    tries: list[int] = []

    def undone_twice() -> dict[str, int]:
        with payment_engine.begin() as connection:
            tries.append(len(tries))
            if len(tries) < 3:
                connection.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))
            return accounts.deposit(connection, user_id, 5, None)

    repeated(undone_twice)

    assert len(tries) == 3
    assert balance_of(payment_engine, user_id) == 5


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "session_replication_role",
            "replica",
            "session_replication_role = replica, where origin is needed",
        ),
        ("zero_damaged_pages", "on", "zero_damaged_pages = on, where off is needed"),
        ("ignore_checksum_failure", "on", "ignore_checksum_failure = on, where off is needed"),
    ],
)
def test_a_service_refuses_what_its_role_may_not_set(
    postgres: Postgres,
    admin: Engine,
    altered: Callable[[str, str], bool],
    name: str,
    value: str,
    sentence: str,
) -> None:
    """One sentence at the start; and later a session that cannot be had."""
    assert altered(name, value)
    with payment_engine_of(postgres) as engine:
        with pytest.raises(UnsafeDatabase, match=sentence):
            check_database(engine, ROLE)
        with pytest.raises(OperationalError, match=sentence):
            engine.connect()
        assert not is_reachable(engine)

        with admin.begin() as connection:
            connection.execute(text(f"ALTER ROLE {ROLE} RESET ALL"))
        check_database(engine, ROLE)
        assert is_reachable(engine)
