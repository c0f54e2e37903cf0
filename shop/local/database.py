"""The shop's database on a PostgreSQL server: a schema and a role for each service.

A role owns its own schema and may do nothing anywhere else, so that no service can lean on
another's tables. Everything here may be done any number of times.

On a server of our own the names are the plain ones. A server that DATABASE_URL names may serve
several shops, and roles belong to a whole server: there every name gets the suffix of the run's
data folder, so that two runs do not meet.
"""

import os
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from service_chassis.database import UnsafeDatabase, check_durable, connect
from service_chassis.database_url import database_url
from service_chassis.migrations import is_current
from service_chassis.sessions import MEANING, pin
from shop.project import CannotRun
from shop.topology import PACKAGES

_DRIVER = "postgresql+psycopg2"


def admin_url(given: str) -> URL:
    """Return what DATABASE_URL says, with DATABASE_PASSWORD if it has no password.

    Raises CannotRun.
    """
    try:
        url = database_url(given, os.environ.get("DATABASE_PASSWORD", ""))
    except ValueError as reason:
        raise CannotRun(f"DATABASE_URL {reason}") from None
    if url.drivername not in ("postgresql", "postgres", _DRIVER):
        raise CannotRun(
            "DATABASE_URL must name a PostgreSQL server: postgresql://postgres:password@host:5432/postgres"
        )
    return url.set(drivername=_DRIVER, database=url.database or "postgres")


@dataclass(frozen=True)
class ShopDatabase:
    """One shop's database on the server that ``admin`` leads to.

    ``passwords`` are those of the services' roles.
    """

    admin: URL
    passwords: dict[str, str]
    suffix: str = ""

    @property
    def name(self) -> str:
        """Return the name of the database."""
        return f"shop{self.suffix}"

    def url(self, service: str) -> URL:
        """Return the address at which ``service`` reaches its schema, as its role."""
        return self.admin.set(
            database=self.name, username=self._role(service), password=self.passwords[service]
        )

    def provide(self) -> None:
        """Make the database, the roles and the schemas, as far as they are not there.

        Raises CannotRun.
        """
        try:
            with connected(self.admin) as connection:
                check_durable(connection)
                self._provide_database(connection)
                for service in PACKAGES:
                    self._provide_role(connection, service)
            with connected(self.admin.set(database=self.name)) as connection:
                connection.execute(text("REVOKE ALL ON SCHEMA public FROM PUBLIC"))
                for service in PACKAGES:
                    connection.execute(
                        text(
                            f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {self._role(service)}"
                        )
                    )
        except UnsafeDatabase as unsafe:
            raise CannotRun(
                f"{unsafe}. Turn it on, or unset DATABASE_URL to run one of our own"
            ) from None
        except DBAPIError as error:
            raise CannotRun(
                f"the PostgreSQL server {_shown(self.admin)} does not let us in: {error.orig}"
            ) from None

    def is_migrated(self, service: str) -> bool:
        """Return whether the schema of ``service`` needs no migration: starting one costs a second."""
        url = SecretStr(self.url(service).render_as_string(hide_password=False))
        engine = connect(url, service, pool_size=1, autocommit=True)
        try:
            with engine.connect() as connection:
                return is_current(connection, service)
        except DBAPIError:
            return False  # the migration says what is wrong
        finally:
            engine.dispose()

    def drop(self) -> None:
        """Remove the database and the roles, with everything in them."""
        with connected(self.admin) as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)"))
            for service in PACKAGES:
                connection.execute(text(f"DROP ROLE IF EXISTS {self._role(service)}"))

    def _role(self, service: str) -> str:
        return f"{service}{self.suffix}"

    def _provide_database(self, connection: Connection) -> None:
        found = connection.execute(
            text("SELECT FROM pg_database WHERE datname = :name"), {"name": self.name}
        ).first()
        if found is None:
            # A server's own locale may be for another encoding, and changes the order of texts when
            # its libraries do.
            locale = "LC_COLLATE 'C' LC_CTYPE 'C'"
            connection.execute(
                text(f"CREATE DATABASE {self.name} ENCODING 'UTF8' {locale} TEMPLATE template0")
            )
        connection.execute(text(f"REVOKE ALL ON DATABASE {self.name} FROM PUBLIC"))

    def _provide_role(self, connection: Connection, service: str) -> None:
        role = self._role(service)
        if (
            connection.execute(
                text("SELECT FROM pg_roles WHERE rolname = :role"), {"role": role}
            ).first()
            is None
        ):
            connection.execute(text(f"CREATE ROLE {role} LOGIN"))
            # An administrator who is no superuser can give a schema only to a role that it is a
            # member of.
            connection.execute(text(f"GRANT {role} TO CURRENT_USER"))
        connection.execute(
            text(f"ALTER ROLE {role} PASSWORD :password"), {"password": self.passwords[service]}
        )
        # A client that freezes inside a transaction must not keep a row locked for ever (R1).
        connection.execute(
            text(f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '2s'")
        )
        connection.execute(text(f"GRANT CONNECT ON DATABASE {self.name} TO {role}"))


def connected(url: URL) -> Connection:
    """Return a connection on which every statement is a transaction of its own.

    Closing it closes it for good.
    """
    engine: Engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        connect_args={"connect_timeout": 5, "client_encoding": "UTF8"},
    )
    pin(engine, MEANING)
    return engine.connect()


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)
