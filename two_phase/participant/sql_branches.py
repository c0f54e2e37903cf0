"""The branches of one participant in PostgreSQL: a table that all have alike, and its SQL.

Rows are locked in the order of their ids, so that any number of replicas work side by side; they
are never deleted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from two_phase.errors import Unavailable
from two_phase.messages import InDoubt, State, TransactionId
from two_phase.participant.branches import BEFORE_ALL, Branch, Collision, Locked, Poison
from two_phase.participant.round_counter import (
    ROUND_COUNTERS_DDL,
    Counters,
    raise_to,
    read_counters,
)
from two_phase.sql import Planned, id_array

BRANCHES_DDL_1 = """
CREATE TABLE branches (
    transaction_id uuid PRIMARY KEY,
    state text NOT NULL,
    generation bigint NOT NULL,
    payload jsonb,
    facts jsonb NOT NULL DEFAULT '{}',
    reason text,
    detail text,
    contended boolean NOT NULL DEFAULT false,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at timestamptz,
    CONSTRAINT branch_state_is_known CHECK (state IN ('prepared', 'committed', 'aborted')),
    CONSTRAINT promise_can_be_kept CHECK (state = 'aborted' OR payload IS NOT NULL),
    CONSTRAINT only_prepared_is_unsettled CHECK ((state = 'prepared') = (settled_at IS NULL))
);
CREATE INDEX branches_in_doubt ON branches (transaction_id) WHERE state = 'prepared';
"""


# What a log that was lost needs to know again (R12).
BRANCHES_DDL_2 = f"""
ALTER TABLE branches ADD COLUMN memo jsonb;
{ROUND_COUNTERS_DDL}
"""


# A sequence without meaning: new entries meet dead ones and take their place. By id they would come
# behind all, and each scan would pass by everything that was in doubt since the last vacuum.
BRANCHES_DDL_3 = (
    # What an attempt that was broken off has left is not valid, and would count as existing.
    "DROP INDEX CONCURRENTLY IF EXISTS branches_undecided",
    "CREATE INDEX CONCURRENTLY branches_undecided ON branches (uuid_hash(transaction_id)) WHERE state = 'prepared'",
    "DROP INDEX CONCURRENTLY IF EXISTS branches_in_doubt",
)


_FIND = text("""
    SELECT transaction_id::text, state, generation, payload::text, facts, reason, detail, contended, memo::text
    FROM branches WHERE transaction_id = ANY (CAST(:ids AS uuid[])) ORDER BY transaction_id FOR UPDATE
""")


_SETTLE = Planned("""
    UPDATE branches SET state = :state, settled_at = clock_timestamp()
    FROM (
        SELECT transaction_id AS id FROM branches
        WHERE transaction_id = ANY (CAST(:ids AS uuid[])) AND state = 'prepared' ORDER BY transaction_id FOR UPDATE
    ) AS locked
    WHERE transaction_id = id
    RETURNING transaction_id::text
""")


# The counter is written when all branches are in, because every round wants it.
_ADD = Planned("""
    WITH added AS (
        INSERT INTO branches (transaction_id, state, generation, payload, facts, reason, detail, contended, memo, settled_at)
        SELECT transaction_id, state, generation, payload, coalesce(facts, '{}'), reason, detail, coalesce(contended, false),
               memo, CASE WHEN state <> 'prepared' THEN clock_timestamp() END
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS branch (
            transaction_id uuid, state text, generation bigint, payload jsonb, facts jsonb, reason text, detail text,
            contended boolean, memo jsonb
        )
        RETURNING 1
    ), before AS MATERIALIZED (
        SELECT CAST(sum(forced) AS bigint) AS forced, max(log_seen) AS log_seen FROM round_counters
    )
    UPDATE round_counters
    SET forced = round_counters.forced + :forced, log_seen = greatest(round_counters.log_seen, :log_counter)
    FROM before WHERE slot = (SELECT CAST(floor(random() * 16) AS smallint)) AND (SELECT count(*) FROM added) >= 0
    RETURNING before.forced + :forced, greatest(before.log_seen, :log_counter)
""")


# What was recorded in the future is old too: the clock has jumped back, and nobody must wait until
# it has caught up. Apart, because the sequence would else be had by walking over all branches that
# there are.
_IN_DOUBT = text("""
    WITH undecided AS MATERIALIZED (SELECT * FROM branches WHERE state = 'prepared')
    SELECT transaction_id::text, generation FROM undecided
    WHERE transaction_id > CAST(:after AS uuid)
          AND (recorded_at <= clock_timestamp() - make_interval(secs => :older_than_seconds) OR recorded_at > clock_timestamp())
    ORDER BY transaction_id LIMIT :limit
""")


_RECORDS = text("""
    SELECT transaction_id::text, state, generation, payload, facts, reason, detail, contended, memo,
           CAST(extract(epoch FROM clock_timestamp() - recorded_at) AS float) AS age_seconds
    FROM branches WHERE transaction_id > CAST(:after AS uuid) AND (CAST(:state AS text) IS NULL OR state = :state)
    ORDER BY transaction_id LIMIT :limit
""")


_IN_DOUBT_SUMMARY = text("""
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0) FROM branches WHERE state = 'prepared'
""")


_LEVEL = text(
    "SELECT set_config('synchronous_commit', :level, true), set_config('lock_timeout', :lock_timeout, true)"
)


_NOT_DONE = {"40001", "40P01"}  # serialization failure, deadlock


_LOCK_TIMEOUT = "55P03"


#: How long a row that others have locked is waited for: longer than a round holds it that meets
#: none; by what only applies decisions, such as a read, longer than by a round of prepares that may
#: hold its branches; and not for long where one was met.
LOCK_TIMEOUT, DECISION_LOCK_TIMEOUT, HURRIED_LOCK_TIMEOUT = "500ms", "1s", "20ms"


class SqlBranchStore:
    """Branches in the schema that ``engine`` connects to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self, *, forced: bool, hurried: bool = False) -> Iterator[Connection]:
        """Open a local transaction; see BranchStore."""
        try:
            with self._engine.begin() as connection:
                # Every session of a service is forced, and waits, unless it says otherwise.
                if hurried or not forced:
                    lock_timeout = HURRIED_LOCK_TIMEOUT if hurried else DECISION_LOCK_TIMEOUT
                    connection.execute(
                        _LEVEL, {"level": "on" if forced else "off", "lock_timeout": lock_timeout}
                    )
                yield connection
        except (DBAPIError, PoolTimeoutError) as error:
            raise _meaning(error) from error

    def find(
        self, connection: Connection, ids: Sequence[TransactionId]
    ) -> dict[TransactionId, Branch]:
        """Lock and return the branches that exist among ``ids``."""
        rows = connection.execute(_FIND, {"ids": id_array(ids)})
        return {row[0]: Branch(row[0], State(row[1]), *row[2:]) for row in rows}

    def settle(
        self, connection: Connection, ids: Sequence[TransactionId], state: State
    ) -> list[TransactionId]:
        """Move what is prepared among ``ids`` to ``state``; return which those were."""
        return [
            row[0] for row in _SETTLE.rows(connection, {"ids": id_array(ids), "state": state.value})
        ]

    def add(
        self, connection: Connection, branches: Sequence[Branch], *, forced: bool, log_counter: int
    ) -> Counters:
        """Insert new branches and count, in one statement; see BranchStore."""
        rows = "[" + ",".join(map(_as_json, branches)) + "]"
        return Counters(
            *_ADD.rows(
                connection, {"rows": rows, "forced": int(forced), "log_counter": log_counter}
            )[0]
        )

    def counters(self) -> Counters:
        """Return the counters as they are."""
        with self.begin(forced=False) as connection:
            return read_counters(connection)

    def raise_to(self, counter: int) -> Counters:
        """Bring the counter to ``counter`` at least; see BranchStore."""
        with self.begin(forced=True) as connection:
            return raise_to(connection, counter)

    def in_doubt(
        self, older_than_seconds: float, limit: int, after: TransactionId = BEFORE_ALL
    ) -> list[InDoubt]:
        """Return branches in doubt for so long, by the database's clock; see BranchStore."""
        parameters = {"older_than_seconds": older_than_seconds, "limit": limit, "after": after}
        with self.begin(forced=False) as connection:
            rows = connection.execute(_IN_DOUBT, parameters).all()
        return [InDoubt(transaction_id=row[0], generation=row[1]) for row in rows]

    def records(
        self, state: State | None, after: TransactionId, limit: int
    ) -> list[dict[str, Any]]:
        """Return up to ``limit`` branches for an auditor, by id, from behind ``after``."""
        parameters = {"state": state and state.value, "after": after, "limit": limit}
        with self.begin(forced=False) as connection:
            return [dict(row) for row in connection.execute(_RECORDS, parameters).mappings()]

    def in_doubt_summary(self) -> tuple[int, float]:
        """Return how many branches are in doubt, and the age of the oldest in seconds."""
        with self.begin(forced=False) as connection:
            count, age_seconds = connection.execute(_IN_DOUBT_SUMMARY).one()
        return int(count), float(age_seconds)


def _as_json(branch: Branch) -> str:
    columns = {
        "transaction_id": branch.transaction_id,
        "state": branch.state.value,
        "generation": branch.generation,
        "facts": branch.facts,
        "reason": branch.reason,
        "detail": branch.detail,
        "contended": branch.contended,
    }
    # PostgreSQL takes longer to read a member than to write its column: what has its default is
    # left out.
    short = to_json({name: value for name, value in columns.items() if value}).decode()
    payload = f', "payload": {branch.payload}' if branch.payload else ""
    memo = f', "memo": {branch.memo}' if branch.memo else ""
    return f"{short[:-1]}{payload}{memo}}}"


def _meaning(error: DBAPIError | PoolTimeoutError) -> Exception:
    cause = getattr(error, "orig", None)
    code = getattr(cause, "pgcode", None)
    if code == _LOCK_TIMEOUT:
        return Locked(str(cause).strip())
    if code in _NOT_DONE or (code == "23505" and "branches_pkey" in str(error)):
        return Collision(str(cause).strip())
    if isinstance(error, IntegrityError | DataError):
        return Poison(str(error))
    return Unavailable("the database does not answer")
