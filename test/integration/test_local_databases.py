"""The local run's PostgreSQL divided between the services: a role, a schema, and nothing else."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from shop.local.database import ShopDatabase, connected
from shop.local.postgres import Postgres
from shop.topology import PACKAGES

PASSWORDS = {service: f"password-of-{service}" for service in PACKAGES}


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> Iterator[tuple[ShopDatabase, ShopDatabase]]:
    """Return two shops' databases on one server, each provided twice."""
    first, second = (
        ShopDatabase(postgres.url(), PASSWORDS, suffix) for suffix in ("_first", "_second")
    )
    for database in (first, second, first, second):
        database.provide()
    yield first, second
    first.drop()
    second.drop()


@pytest.mark.parametrize("service", PACKAGES)
def test_role_has_its_own_schema(
    databases: tuple[ShopDatabase, ShopDatabase], service: str
) -> None:
    """A service can make and use its tables, and a client that freezes in a transaction is cut off after two seconds."""
    with connected(databases[0].url(service)) as connection:
        connection.execute(text(f"CREATE TABLE {service}.own (id integer)"))
        assert (
            connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
            == "2s"
        )
        connection.execute(text(f"DROP TABLE {service}.own"))


@pytest.mark.parametrize("service", PACKAGES)
def test_role_may_do_nothing_anywhere_else(
    databases: tuple[ShopDatabase, ShopDatabase], service: str
) -> None:
    """No service can lean on another's tables, or leave some where nobody looks."""
    foreign = [other for other in (*PACKAGES, "public") if other != service]
    statements = [f"CREATE TABLE {schema}.stolen (id integer)" for schema in foreign]

    with connected(databases[0].url(service)) as connection:
        for statement in (
            *statements,
            "CREATE SCHEMA further",
            "CREATE TEMPORARY TABLE t (id integer)",
            "CREATE ROLE r",
        ):
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(statement))


def test_two_shops_on_one_server_do_not_meet(databases: tuple[ShopDatabase, ShopDatabase]) -> None:
    """Neither can enter the other's database, and removing one leaves the other as it was."""
    first, second = databases
    trespass = first.url("order_service").set(database=second.name)

    with pytest.raises(Exception, match="permission denied for database"):
        connected(trespass)
    third = ShopDatabase(first.admin, PASSWORDS, "_third")
    third.provide()
    third.drop()
    with connected(first.admin) as connection:
        names = set(connection.execute(text("SELECT datname FROM pg_database")).scalars())
    assert {first.name, second.name} <= names
    assert third.name not in names


def test_administrator_need_not_be_a_superuser(postgres: Postgres) -> None:
    """Managed servers give nobody a superuser.

    Who may create databases and roles can have a shop, and remove it.
    """
    with connected(postgres.url()) as connection:
        connection.execute(
            text("CREATE ROLE modest LOGIN CREATEDB CREATEROLE PASSWORD 'of modest'")
        )
    database = ShopDatabase(postgres.url(role="modest", password="of modest"), PASSWORDS, "_modest")  # noqa: S106

    database.provide()
    database.provide()
    with connected(database.url("stock_service")) as connection:
        connection.execute(text("CREATE TABLE stock_service.own (id integer)"))

    database.drop()
    with connected(postgres.url()) as connection:
        connection.execute(text("DROP ROLE modest"))
