"""Servers and databases on which no service starts: each is refused in a sentence."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from payment_service import accounts
from payment_service.schemas import NewUser
from service_chassis.database import UnsafeDatabase, check_database, connect
from shop.local import postgres_binaries
from shop.local.database import connected
from shop.local.ports import Ports
from shop.local.postgres import Postgres, account_for

from .conftest import PASSWORD, migrate

_TURKISH = "LOCALE_PROVIDER icu ICU_LOCALE 'tr' LC_COLLATE 'C' LC_CTYPE 'C'"


def _check(server: Postgres, database: str) -> None:
    url = server.url(database).render_as_string(hide_password=False)
    engine = connect(SecretStr(url), "public", pool_size=2)
    try:
        check_database(engine, "public")
    finally:
        engine.dispose()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_a_database_in_another_encoding_is_refused(
    postgres: Postgres, admin: Engine, encoding: str
) -> None:
    """Not every name could be written there, or texts would be bytes of which nobody knows the meaning."""
    name = f"in_{encoding.lower()}"
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Nobody may be connected to the template.
        connection.execute(
            text(
                f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            )
        )
        try:
            with pytest.raises(UnsafeDatabase, match=f"the database has the encoding {encoding}"):
                _check(postgres, name)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_keys_and_names_do_not_depend_on_the_locale(postgres: Postgres, admin: Engine) -> None:
    """In Turkish `I` is no capital `i`.

    Keys that differ in a byte are different keys, wherever the database stands.
    """
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            connection.execute(
                text(f"CREATE DATABASE turkish ENCODING 'UTF8' {_TURKISH} TEMPLATE template0")
            )
        except DBAPIError as error:
            pytest.skip(f"this server has no ICU: {error.orig}")
        engine = None
        try:
            url = postgres.url("turkish")
            migrate("payment_service", url)
            engine = connect(
                SecretStr(url.render_as_string(hide_password=False)), "payment_service", pool_size=2
            )
            check_database(engine, "payment_service")
            with engine.begin() as work:
                user_id = accounts.open_accounts(work, [NewUser(name="İı", balance=0)])[0][
                    "user_id"
                ]
                for key in ("I", "i", "I"):
                    accounts.deposit(work, user_id, 1, key)
                found = accounts.shown(work, user_id)[0]

            assert (found["name"], found["balance"]) == ("İı", 2)
        finally:
            if engine is not None:
                engine.dispose()
            connection.execute(text("DROP DATABASE turkish WITH (FORCE)"))


def test_a_service_refuses_a_server_that_forgets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After a failed flush the kernel may say that a page is written which is not.

    The server must not go on as if it were.
    """
    folder = tmp_path_factory.mktemp("forgets") / "data"
    with Ports() as ports:
        server = Postgres(
            postgres_binaries.find(account_for(folder)), folder, ports.reserve(), PASSWORD
        )
        server.create()
        configuration = Path(folder, "postgresql.auto.conf")
        configuration.write_text("data_sync_retry = on\n")
        server.start()
        try:
            with pytest.raises(
                UnsafeDatabase, match="data_sync_retry = on: a vote would be no promise"
            ):
                _check(server, "postgres")
            with connected(server.url()) as connection:
                connection.execute(text("ALTER SYSTEM SET data_sync_retry = off"))
        finally:
            server.stop()
        server.start()
        try:
            _check(server, "postgres")
        finally:
            server.stop()
