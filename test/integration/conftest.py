"""A real PostgreSQL for the tests of this folder, with the four migrated schemas, each reached by its own role."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text

from hostile_settings import ANOTHER_ACCESS_METHOD, assigned
from order_service.models import LOG
from order_service.order import row_of
from ready_data import migrate
from service_chassis import server
from service_chassis.database import connect
from shop.local import postgres_binaries
from shop.local.ports import Ports
from shop.local.postgres import Postgres, account_for
from shop.topology import PACKAGES
from two_phase.coordinator.sql_decision_log import SqlDecisionLog

PASSWORD = "of-this-test-run"  # noqa: S105 - a server that lives as long as the tests
DATABASE = "shop"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Return a server of our own, stopped when the tests end."""
    folder = tmp_path_factory.mktemp("postgres") / "data"
    with Ports() as ports:
        server = Postgres(
            postgres_binaries.find(account_for(folder)), folder, ports.reserve(), PASSWORD
        )
        server.create()
        server.start()
        yield server
        server.stop("immediate")


def add_schema(admin: Engine, name: str) -> None:
    """Create a role and the schema that it owns, both called ``name``."""
    with admin.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"))
        connection.execute(text(f"CREATE SCHEMA {name} AUTHORIZATION {name}"))


@pytest.fixture(scope="session")
def admin(postgres: Postgres) -> Iterator[Engine]:
    """Return the superuser's connections to the shop's database, in which all four schemas stand."""
    maintenance = create_engine(postgres.url(), isolation_level="AUTOCOMMIT")
    with maintenance.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {DATABASE}"))
    maintenance.dispose()
    engine = create_engine(postgres.url(DATABASE))
    for service in PACKAGES:
        add_schema(engine, service)
        migrate(service, postgres.url(DATABASE, service, PASSWORD))
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def engines(postgres: Postgres, admin: Engine) -> Iterator[dict[str, Engine]]:
    """Return each service's own connections."""
    assert admin
    with ExitStack() as stack:
        made = {service: _engine(postgres, service) for service in PACKAGES}
        for engine in made.values():
            stack.callback(engine.dispose)
        yield made


def _engine(postgres: Postgres, role: str) -> Engine:
    url = postgres.url(DATABASE, role, PASSWORD).render_as_string(hide_password=False)
    return connect(SecretStr(url), role, pool_size=8)


@pytest.fixture(scope="session")
def order_engine(engines: dict[str, Engine]) -> Engine:
    """Return order_service's connections."""
    return engines["order_service"]


@pytest.fixture(scope="session")
def log_engine(order_engine: Engine) -> Engine:
    """Return order_service's connections as its log uses them.

    Every statement is a transaction of its own.
    """
    return order_engine.execution_options(isolation_level="AUTOCOMMIT")


@pytest.fixture(scope="session")
def payment_engine(engines: dict[str, Engine]) -> Engine:
    """Return payment_service's connections."""
    return engines["payment_service"]


@pytest.fixture(scope="session")
def stock_engine(engines: dict[str, Engine]) -> Engine:
    """Return stock_service's connections."""
    return engines["stock_service"]


@pytest.fixture(scope="session")
def delivery_engine(engines: dict[str, Engine]) -> Engine:
    """Return delivery_service's connections."""
    return engines["delivery_service"]


@pytest.fixture
def participant_engine(postgres: Postgres, admin: Engine) -> Iterator[Engine]:
    """Return the connections of a participant that has nothing yet: an empty schema of its own."""
    add_schema(admin, "own_participant")
    engine = _engine(postgres, "own_participant")
    yield engine
    engine.dispose()
    with admin.begin() as connection:
        connection.execute(text("DROP SCHEMA own_participant CASCADE"))
        connection.execute(text("DROP ROLE own_participant"))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the logs and the garbage of the tests' own process as they are."""
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "_spare_the_collector", lambda: None)


@pytest.fixture(params=["on", "off"])
def either_way(request: pytest.FixtureRequest, quiet: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve with and without the fast path."""
    del quiet
    monkeypatch.setenv("FAST_PATH", request.param)
    return str(request.param)


@pytest.fixture
def altered(admin: Engine) -> Iterator[Callable[[str, str], bool]]:
    """Return a function that sets something for payment's role, as long as the test runs.

    False if the server has no such thing.
    """
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(ANOTHER_ACCESS_METHOD))

        def alter(name: str, value: str) -> bool:
            if (
                connection.scalar(text("SELECT current_setting(:name, true)"), {"name": name})
                is None
            ):
                return False
            connection.execute(text(f"ALTER ROLE payment_service SET {assigned(name, value)}"))
            return True

        yield alter
        connection.execute(text("ALTER ROLE payment_service RESET ALL"))
        connection.execute(text("DROP ACCESS METHOD heap2"))


@pytest.fixture
def decision_log(log_engine: Engine) -> Iterator[SqlDecisionLog]:
    """Return a log as one replica has it."""
    with ThreadPoolExecutor(4) as executor:
        yield SqlDecisionLog(log_engine, executor, LOG, row_of)
