"""Statements that are planned once per connection, on a real server."""

from itertools import chain
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from delivery_service import book
from order_service import models
from payment_service import charge
from stock_service import reserve
from two_phase.coordinator.log_statements import LogStatements
from two_phase.errors import Unavailable
from two_phase.messages import State
from two_phase.participant import branches, round_counter
from two_phase.participant.branches import Branch
from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2, SqlBranchStore
from two_phase.sql import Planned

ID = "00000000-0000-7000-8000-000000000001"
MODULES: dict[str, list[ModuleType | LogStatements]] = {
    "order_service": [models.LOG],
    "payment_service": [branches, round_counter, charge],
    "stock_service": [reserve],
    "delivery_service": [book],
}
#: These have a row each, or sixteen, for ever.
NEVER_GROW = {"round_counters", "log_counters", "log_state", "restored_participants"}
_DIFFERENCE = Planned("SELECT CAST(:b AS bigint) - :a, CAST(:a AS bigint)")
_LEAVING = Planned("SELECT pg_terminate_backend(pg_backend_pid(), CAST(:wait_ms AS bigint))")
_ONE_BY = Planned("SELECT 1 / CAST(:divisor AS bigint)")


def _planned(module: ModuleType | LogStatements) -> list[Planned]:
    return [each for each in vars(module).values() if isinstance(each, Planned)]


def _scanned(node: dict[str, Any]) -> set[str]:
    """Return the tables that a plan reads from end to end."""
    below = set(chain.from_iterable(_scanned(child) for child in node.get("Plans", [])))
    return below | ({node["Relation Name"]} if node["Node Type"] == "Seq Scan" else set())


@pytest.fixture
def store(participant_engine: Engine) -> SqlBranchStore:
    """Return the branches of a participant that has nothing yet."""
    with participant_engine.begin() as connection:
        connection.execute(text(BRANCHES_DDL_1 + BRANCHES_DDL_2))
    return SqlBranchStore(participant_engine)


def test_parameters_go_where_their_names_are(payment_engine: Engine) -> None:
    """A name may stand in several places, and the order of the values is not that of the names."""
    with payment_engine.connect() as connection:
        assert _DIFFERENCE.rows(connection, {"a": 3, "b": 10}) == [(7, 3)]


def test_a_statement_is_planned_once_per_connection(payment_engine: Engine) -> None:
    """From the first time on one plan serves all parameters."""
    statement = Planned("SELECT CAST(:number AS bigint)")
    with payment_engine.connect() as connection:
        for number in range(7):
            statement.rows(connection, {"number": number})
        plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = :statement"
        assert connection.execute(text(plans), {"statement": statement.prepare}).all() == [(7, 0)]


@pytest.mark.parametrize("service", MODULES)
def test_a_plan_that_is_kept_does_not_depend_on_how_small_the_tables_were(
    engines: dict[str, Engine], admin: Engine, service: str
) -> None:
    """An index is used even for tables that PostgreSQL knows to be nearly empty.

    They will have grown when the plan is used.
    """
    with admin.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))
    statements = [statement for module in MODULES[service] for statement in _planned(module)]
    with engines[service].connect() as connection:
        for statement in statements:
            name = statement.call.split()[1]
            values = ", ".join(["NULL"] * len(set(statement.call.split("%(")[1:])))
            connection.exec_driver_sql(f"DEALLOCATE ALL; {statement.prepare}")
            plan = connection.exec_driver_sql(
                f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({values})"
            ).scalar_one()
            assert _scanned(plan[0]["Plan"]) <= NEVER_GROW, statement.text
            # What it costs to avoid a scan would look worth compiling, which takes longer than any
            # of them.
            assert "JIT" not in plan[0], statement.text
        connection.invalidate()

    assert statements


def test_an_error_is_that_of_sqlalchemy_and_undoes_the_transaction(
    store: SqlBranchStore, participant_engine: Engine
) -> None:
    """What goes past SQLAlchemy fails as if it did not, so that its callers need not know."""

    def fails() -> None:
        with participant_engine.begin() as connection:
            store.add(connection, [Branch(ID, State.ABORTED, 1)], forced=True, log_counter=0)
            _ONE_BY.rows(connection, {"divisor": 0})

    with pytest.raises(DataError):
        fails()
    with participant_engine.begin() as connection:
        assert store.find(connection, [ID]) == {}
        store.add(connection, [Branch(ID, State.ABORTED, 1)], forced=True, log_counter=0)

    with (
        pytest.raises(IntegrityError, match="branches_pkey"),
        participant_engine.begin() as connection,
    ):
        store.add(connection, [Branch(ID, State.ABORTED, 1)], forced=True, log_counter=0)


def test_when_the_server_has_gone_all_connections_are_made_anew(
    store: SqlBranchStore, participant_engine: Engine, admin: Engine
) -> None:
    """A restarted database costs one failure, and not one for each connection that was waiting in the pool."""
    waiting = [participant_engine.connect() for _ in range(4)]
    for connection in waiting:
        _DIFFERENCE.rows(connection, {"a": 1, "b": 1})
        connection.close()
    with admin.begin() as connection:
        terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'own_participant'"
        assert len(connection.execute(text(terminate)).all()) >= len(waiting)

    with pytest.raises(Unavailable) as lost, store.begin(forced=True) as open_transaction:
        store.add(open_transaction, [Branch(ID, State.ABORTED, 1)], forced=True, log_counter=0)
    # What has happened, and not what came of it when the transaction was to be rolled back.
    assert "already closed" not in str(lost.value.__cause__)

    for connection in [participant_engine.connect() for _ in waiting]:
        assert _DIFFERENCE.rows(connection, {"a": 1, "b": 1}) == [(0, 1)]
        connection.close()


def test_an_autocommitting_connection_that_has_gone_is_reported(log_engine: Engine) -> None:
    """The decision log works without transactions of SQLAlchemy's.

    There too the loss of a connection is seen.
    """
    with log_engine.connect() as connection:
        with pytest.raises(DBAPIError) as lost:
            _LEAVING.rows(connection, {"wait_ms": 0})
        assert lost.value.connection_invalidated
    with log_engine.connect() as connection:
        assert _DIFFERENCE.rows(connection, {"a": 1, "b": 2}) == [(1, 1)]
