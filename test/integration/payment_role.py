"""Engines of payment's role on the shared server, and the few calls that tests make with them."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr
from sqlalchemy import Engine

from payment_service import accounts
from payment_service.schemas import NewUser
from service_chassis.database import connect
from shop.local.postgres import Postgres

from .conftest import DATABASE, PASSWORD

ROLE = "payment_service"


@contextmanager
def payment_engine_of(
    postgres: Postgres, role: str = ROLE, *, autocommit: bool = False
) -> Iterator[Engine]:
    """Connect as the service does, inside the block."""
    url = postgres.url(DATABASE, role, PASSWORD).render_as_string(hide_password=False)
    engine = connect(SecretStr(url), role, pool_size=10, autocommit=autocommit)
    yield engine
    engine.dispose()


def new_account(engine: Engine, balance: int = 0) -> int:
    """Open an account and return its id."""
    with engine.begin() as connection:
        return int(
            accounts.open_accounts(connection, [NewUser(name="Ivan", balance=balance)])[0][
                "user_id"
            ]
        )


def deposit(engine: Engine, user_id: int, amount: int, key: str | None) -> dict[str, int]:
    """Deposit an amount, and return what the customer is told."""
    with engine.begin() as connection:
        return accounts.deposit(connection, user_id, amount, key)


def balance_of(engine: Engine, user_id: int) -> int:
    """Return the balance of an account."""
    with engine.connect() as connection:
        return int(accounts.shown(connection, user_id)[0]["balance"])
