"""What a GET of a participant shows while a branch is in doubt, and what it reads for that when nobody has vacuumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from delivery_service import models as delivery_models
from delivery_service import slots
from payment_service import accounts, charge
from payment_service import models as payment_models
from payment_service.schemas import NewUser
from service_chassis.participant_service import Database
from stock_service import models as stock_models
from stock_service import products
from two_phase.errors import Unavailable
from two_phase.messages import (
    InDoubt,
    Outcomes,
    Prepare,
    Round,
    State,
    TransactionId,
    new_transaction_id,
)
from two_phase.participant.branches import Branch
from two_phase.participant.participant import Participant
from two_phase.participant.recovery import Recovery
from two_phase.participant.sql_branches import (
    BRANCHES_DDL_1,
    BRANCHES_DDL_2,
    BRANCHES_DDL_3,
    SqlBranchStore,
)
from two_phase.sql import Planned

BATCHES, BRANCHES_PER_BATCH = 60, 400
#: A handful of pages for what is in doubt, and what the row itself takes.
BLOCKS_MAX = 40
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


@dataclass(frozen=True)
class Kind:
    """A service that is read: its tables, a row of them, what a branch of it holds, and the parameters of the look."""

    models: ModuleType
    module: ModuleType
    row: str
    payload: str
    parameters: dict[str, Any]


KINDS = {
    "payment": Kind(
        payment_models,
        accounts,
        "INSERT INTO accounts (name, opening, available) VALUES ('Ivan', 100, 100)",
        '{"user_id": 1, "amount": 0}',
        {"user_id": 1},
    ),
    "stock": Kind(
        stock_models,
        products,
        "INSERT INTO products (name, price, opening, available) VALUES ('lamp', 10, 5, 5)",
        '{"items": [{"product_id": 1, "quantity": 1, "price": 10}]}',
        {"product_id": 1, "touching": '{"items": [{"product_id": 1}]}'},
    ),
    "delivery": Kind(
        delivery_models,
        slots,
        "INSERT INTO slots (starts_at) VALUES (now())",
        '{"slot_id": 1}',
        {"slot_id": 1},
    ),
}


def _create(engine: Engine, kind: Kind) -> None:
    kind.models.Base.metadata.create_all(engine)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in (BRANCHES_DDL_1, BRANCHES_DDL_2, *BRANCHES_DDL_3, kind.row):
            connection.execute(text(statement))
        connection.execute(text("ALTER TABLE branches SET (autovacuum_enabled = off)"))


def _trade(engine: Engine, payload: str) -> None:
    """Prepare and commit many branches, and look for those in doubt now and then, as recovery does."""
    store = SqlBranchStore(engine)
    for _ in range(BATCHES):
        ids = sorted(new_transaction_id() for _ in range(BRANCHES_PER_BATCH))
        new = [Branch(each, State.PREPARED, 1, payload) for each in ids]
        with store.begin(forced=False) as connection:
            store.add(connection, new, forced=False, log_counter=0)
        with store.begin(forced=False) as connection:
            assert len(store.settle(connection, ids, State.COMMITTED)) == len(ids)
        assert store.in_doubt(0, 1) == []


def _blocks_read(connection: Connection, module: ModuleType, parameters: dict[str, Any]) -> int:
    """Return how many blocks the second of two looks reads: the first may find out what is dead."""
    [statement] = [each for each in vars(module).values() if isinstance(each, Planned)]
    statement.rows(connection, parameters)
    cursor = connection.connection.cursor()
    cursor.execute(EXPLAIN + statement.call, parameters)
    plan = cursor.fetchall()[0][0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_look_reads_few_blocks_when_nobody_has_vacuumed(
    participant_engine: Engine, kind: Kind
) -> None:
    """All that was ever in doubt since the last vacuum is not passed by at each look."""
    _create(participant_engine, kind)

    _trade(participant_engine, kind.payload)

    with participant_engine.connect() as connection:
        assert _blocks_read(connection, kind.module, kind.parameters) <= BLOCKS_MAX


@pytest.mark.parametrize(
    ("index", "bitmaps"), [("transaction_id", "off"), ("uuid_hash(transaction_id)", "on")]
)
def test_a_look_that_passes_by_the_dead_is_seen(
    participant_engine: Engine, index: str, bitmaps: str
) -> None:
    """The test above can fail: by an index by id, and by scans that do not mark what is dead."""
    kind = KINDS["payment"]

    def set_bitmaps(connection: Any, _record: object) -> None:
        connection.cursor().execute(f"SET enable_bitmapscan = {bitmaps}")
        connection.commit()

    event.listen(participant_engine, "connect", set_bitmaps)
    _create(participant_engine, kind)
    with participant_engine.begin() as connection:
        connection.execute(text("DROP INDEX branches_undecided"))
        connection.execute(
            text(f"CREATE INDEX other ON branches ({index}) WHERE state = 'prepared'")
        )

    _trade(participant_engine, kind.payload)

    with participant_engine.connect() as connection:
        assert _blocks_read(connection, kind.module, kind.parameters) > BLOCKS_MAX


@dataclass
class Log:
    """A coordinator that is asked by reads, and says what it is told to say."""

    outcomes_: Outcomes = field(default_factory=lambda: Outcomes(confirmed=[], cancelled=[]))
    away: bool = False
    peeks: int = 0

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Fail: no read may have anything decided."""
        raise AssertionError((transactions, log_seen))

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Tell what is recorded."""
        assert transactions
        assert log_seen == 0
        self.peeks += 1
        if self.away:
            raise Unavailable("away")
        return self.outcomes_


@dataclass
class Place:
    """An account with 100, of which a branch in doubt holds 30."""

    engine: Engine
    log: Log
    database: Database
    branch: TransactionId

    async def account(self) -> dict[str, Any]:
        """Return the account as a GET shows it."""
        return await self.database.read(lambda connection: accounts.shown(connection, 1))

    def state(self) -> str:
        """Return the state of the branch."""
        with self.engine.connect() as connection:
            return str(connection.execute(text("SELECT state FROM branches")).scalar_one())


@pytest.fixture
def place(participant_engine: Engine) -> Place:
    """Return one in a schema of its own."""
    _create(participant_engine, KINDS["payment"])
    store = SqlBranchStore(participant_engine)
    participant = Participant(store, charge.Charge, charge.take, charge.give_back)
    branch, log = new_transaction_id(), Log()
    prepare = Prepare(transaction_id=branch, payload={"user_id": 1, "amount": 30})
    participant.round(Round(generation=1, prepares=[prepare]))
    return Place(
        participant_engine, log, Database(participant_engine, Recovery(participant, log)), branch
    )


async def test_an_undecided_branch_is_shown_as_held_and_nothing_is_decided(place: Place) -> None:
    """R10: a GET asks, and never cancels."""
    shown = await place.account()

    assert (shown["balance"], shown["held"], shown["available"]) == (100, 30, 70)
    assert (place.log.peeks, place.state()) == (1, "prepared")


@pytest.mark.parametrize(
    ("outcomes", "balance"),
    [(lambda branch: ([branch], []), 70), (lambda branch: ([], [branch]), 100)],
)
async def test_a_decision_that_was_told_is_shown(
    place: Place, outcomes: Callable[[str], tuple[list[str], list[str]]], balance: int
) -> None:
    """R10: the customer who was told reads it, though this participant has not heard of it yet."""
    confirmed, cancelled = outcomes(place.branch)
    place.log.outcomes_ = Outcomes(confirmed=confirmed, cancelled=cancelled)

    shown = await place.account()

    assert (shown["balance"], shown["held"], shown["available"]) == (balance, 0, balance)


async def test_a_read_without_a_coordinator_has_no_answer_unless_nothing_is_in_doubt(
    place: Place,
) -> None:
    """R10: 503 rather than something untrue, for what is touched and for nothing else."""
    place.log.away = True
    with place.engine.begin() as connection:
        accounts.open_accounts(connection, [NewUser(name="Anna", balance=5)])

    with pytest.raises(Unavailable):
        await place.account()

    other = await place.database.read(lambda connection: accounts.shown(connection, 2))
    assert other["balance"] == 5
    assert place.state() == "prepared"
