"""The decision log in PostgreSQL.

The table of orders, written by compare-and-set and never changed.

Every write is one autocommitted statement, so that a coordinator frozen at any point holds no
transaction open. Its winner is read in a second statement, because in the same one it is invisible;
that read is a forced write of its own, because a row found is not a row flushed (R4).

The same statement counts, and compares: a log of another generation, or one that was further when
somebody saw it, writes nothing (R12). The counter is the sum over sixteen rows, for the reasons
that ``two_phase.participant.round_counter`` gives.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from threading import Lock
from typing import Any, TypeVar

from pydantic_core import to_json
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from order_service.order import row_of, tombstone
from two_phase import crash_points
from two_phase.coordinator.decision_log import LOG, LoggedDecision, LogStatus
from two_phase.coordinator.verdict import Verdict
from two_phase.errors import Unavailable
from two_phase.messages import Decision, InDoubt, Outcomes, TransactionId
from two_phase.sql import Planned, id_array

T = TypeVar("T")

#: Waits for a decision insert that is still in flight end after this time; then the same insert may
#: be repeated.
_DECIDE_LOCK_TIMEOUT = "2s"
_ASK_LOCK_TIMEOUT = "500ms"
_REPEATS_MAX = 5
_NOT_WRITTEN = {
    "40001",
    "40P01",
}  # serialization failure, deadlock: nothing was written, the same insert is safe
_LOCK_TIMEOUT = "55P03"

# The slot is taken when all rows are in, so that two inserts never wait for each other crosswise.
_DECIDE = Planned("""
    WITH level AS MATERIALIZED (
        SELECT set_config('synchronous_commit', :level, true), set_config('lock_timeout', :lock_timeout, true)
    ), log AS MATERIALIZED (
        SELECT generation, written FROM log_state, (SELECT CAST(sum(written) AS bigint) AS written FROM log_counters) AS sum
        WHERE written >= :known AND NOT EXISTS (SELECT FROM restored_participants WHERE participant = 'log')
    ), decided AS (
        INSERT INTO orders (transaction_id, status, generation, user_id, slot_id, items, total, courier, refusals,
                            idempotency_key, request_digest)
        SELECT transaction_id, status, decision.generation, user_id, slot_id, items, total, courier, coalesce(refusals, '[]'),
               idempotency_key, request_digest
        FROM level, jsonb_to_recordset(CAST(:rows AS jsonb)) AS decision (
            transaction_id uuid, status text, generation bigint, user_id bigint, slot_id bigint, items jsonb, total numeric,
            courier text, refusals jsonb, idempotency_key text, request_digest text
        )
        JOIN log ON log.generation = decision.generation
        ORDER BY transaction_id
        ON CONFLICT DO NOTHING
        RETURNING transaction_id::text, status
    ), counted AS (
        UPDATE log_counters SET written = log_counters.written + 1, heard = heard || (
            SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(CAST(:heard AS jsonb))
            WHERE CAST(value AS bigint) > coalesce(CAST(log_counters.heard->>key AS bigint), 0))
        FROM log
        WHERE :level = 'on' AND slot = (SELECT CAST(floor(random() * 16) AS smallint)) AND (SELECT count(*) FROM decided) > 0
        RETURNING log.written + 1 AS written
    )
    SELECT transaction_id, status, (SELECT written FROM counted) FROM decided
""")
_FOUND = text("""
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT transaction_id::text, status FROM forced, orders WHERE transaction_id = ANY (CAST(:ids AS uuid[]))
""")
_PEEK = text(
    "SELECT transaction_id::text, status FROM orders WHERE transaction_id = ANY (CAST(:ids AS uuid[]))"
)
_STATUS = text("""
    SELECT generation, (SELECT CAST(sum(written) AS bigint) FROM log_counters),
           (SELECT coalesce(jsonb_object_agg(participant, counter), '{}') FROM (
                SELECT key AS participant, max(CAST(value AS bigint)) AS counter
                FROM log_counters, jsonb_each_text(heard) GROUP BY key) AS highest),
           (SELECT coalesce(jsonb_agg(participant), '[]') FROM restored_participants)
    FROM log_state
""")
_WRITTEN = text("""
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT CAST(sum(written) AS bigint) FROM forced, log_counters
""")
_NOTE = text("""
    WITH noted AS (
        INSERT INTO restored_participants (participant)
        SELECT :name WHERE :name <> 'log' OR (SELECT sum(written) FROM log_counters) < :seen
        ON CONFLICT DO NOTHING
    )
    UPDATE log_counters SET heard = heard || jsonb_build_object(CAST(:name AS text), CAST(:seen AS bigint))
    WHERE slot = 0 AND coalesce(CAST(heard->>CAST(:name AS text) AS bigint), 0) < :seen
""")


class SqlDecisionLog:
    """The log of all replicas of order_service.

    ``engine`` must autocommit, and blocking calls run in ``executor``.

    One that is not ``opened`` tells what it has recorded, and decides nothing that it is asked
    about, until ``open``.
    """

    def __init__(self, engine: Engine, executor: Executor, *, opened: bool = True) -> None:
        self._engine = engine
        self._executor = executor
        self._opened = opened
        self._log_position = 0
        self._heeding = Lock()

    @property
    def log_position(self) -> int:
        """How far the log had come, as far as this process knows."""
        return self._log_position

    def observe(self, log_seen: int) -> None:
        """Know that somebody has seen the log at ``log_seen``."""
        with self._heeding:
            self._log_position = max(self._log_position, log_seen)

    def open(self) -> None:
        """Decide what is asked about from now on."""
        self._opened = True

    async def status(self) -> LogStatus:
        """Return how far the log has come; see DecisionLog."""

        def stands(connection: Connection) -> LogStatus:
            generation, written, heard, restored = connection.execute(_STATUS).one()
            if written > self._log_position:
                # A counter that was read may be written and not flushed yet, and would then be seen
                # to fall.
                self.observe(connection.execute(_WRITTEN).scalar_one())
            return LogStatus(generation, written, heard, frozenset(restored))

        return await self.run(stands)

    async def note_restored(self, name: str, seen: int = 0) -> None:
        """Let all replicas know that a participant, or the log, was restored from an older backup.

        See DecisionLog.
        """
        await self.run(lambda connection: connection.execute(_NOTE, {"name": name, "seen": seen}))

    async def decide(
        self, verdicts: Sequence[Verdict], generation: int, heard: Mapping[str, int]
    ) -> Mapping[TransactionId, LoggedDecision]:
        """Write the verdicts, first writer wins; see DecisionLog."""
        rows = [row_of(verdict, generation) for verdict in verdicts]
        forced = any(row["status"] == Decision.CONFIRMED or row["idempotency_key"] for row in rows)
        return await self.run(
            lambda connection: self._decided(
                connection, rows, to_json(heard).decode(), forced=forced
            )
        )

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Return the decisions on ``transactions``.

        One that is unknown is cancelled first, durably.
        """
        self.observe(log_seen)
        work = self.ask if self._opened else self._told
        decided = await self.run(lambda connection: work(connection, transactions))
        crash_points.reach("outcomes_durable")
        return _as_outcomes(decided)

    def ask(
        self, connection: Connection, transactions: Sequence[InDoubt]
    ) -> dict[TransactionId, Decision]:
        """Return the decisions on ``transactions`` by an insert that waits for one in flight.

        One that hangs is left out.
        """
        rows = [tombstone(each.model_dump()) for each in transactions]
        try:
            self._inserted(connection, rows, forced=True, lock_timeout=_ASK_LOCK_TIMEOUT)
            answered = rows
        except DBAPIError as error:
            if _code(error) != _LOCK_TIMEOUT:
                raise
            answered = [row for row in rows if self._inserted_alone(connection, row)]
        return _read(connection, _FOUND, id_array([row["transaction_id"] for row in answered]))

    def _told(
        self, connection: Connection, transactions: Sequence[InDoubt]
    ) -> dict[TransactionId, Decision]:
        return _read(connection, _FOUND, id_array([each.transaction_id for each in transactions]))

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Return the decisions recorded by now.

        Only where there are any is a flush worth its while (R4).
        """
        self.observe(log_seen)

        def peeked(connection: Connection) -> dict[TransactionId, Decision]:
            known = self._log_position
            recorded = _read(
                connection, _PEEK, id_array([each.transaction_id for each in transactions])
            )
            if len(recorded) < len(transactions):
                _, written, _, restored = connection.execute(_STATUS).one()
                if written < known or LOG in restored:
                    raise Unavailable(
                        "the decision log was restored, and may have forgotten what it had told"
                    )
            return _read(connection, _FOUND, id_array(list(recorded))) if recorded else {}

        return _as_outcomes(await self.run(peeked))

    def found(self, connection: Connection, ids: Sequence[TransactionId]) -> Outcomes:
        """Return what the log says of ``ids``, durably."""
        return _as_outcomes(_read(connection, _FOUND, id_array(ids)))

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run blocking ``work`` on an autocommitting connection, in the log's own threads."""

        def connected() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, connected)

    def _decided(
        self, connection: Connection, rows: Sequence[dict[str, Any]], heard: str, *, forced: bool
    ) -> dict[TransactionId, LoggedDecision]:
        """Insert ``rows``, and return what the log says of each.

        Those that are not this log's are left out.
        """
        written = self._inserted(
            connection, rows, heard, forced=forced, lock_timeout=_DECIDE_LOCK_TIMEOUT
        )
        decided = {
            transaction_id: LoggedDecision(decision) for transaction_id, decision in written.items()
        }
        missing = [row for row in rows if row["transaction_id"] not in written]
        if not missing:
            return decided
        found = _read(connection, _FOUND, id_array([row["transaction_id"] for row in missing]))
        lost_key = [
            tombstone(row)
            for row in missing
            if row["transaction_id"] not in found and row["idempotency_key"]
        ]
        if lost_key:
            # Another transaction has answered for this key: this one can only be cancelled, and
            # then says so itself.
            cancelled = self._decided(connection, lost_key, heard, forced=True)
            found |= {transaction_id: row.decision for transaction_id, row in cancelled.items()}
        return decided | {
            transaction_id: LoggedDecision(decision, existed=True)
            for transaction_id, decision in found.items()
        }

    def _inserted_alone(self, connection: Connection, row: dict[str, Any]) -> bool:
        """Ask about one transaction.

        One whose decision hangs in flight must not hold up the others.
        """
        try:
            self._inserted(connection, [row], forced=True, lock_timeout="50ms")
        except DBAPIError as error:
            if _code(error) != _LOCK_TIMEOUT:
                raise
            return False
        return True

    def _inserted(
        self,
        connection: Connection,
        rows: Sequence[dict[str, Any]],
        heard: str = "{}",
        *,
        forced: bool,
        lock_timeout: str,
    ) -> dict[TransactionId, Decision]:
        parameters = {
            "rows": to_json(rows).decode(),
            "known": self._log_position,
            "heard": heard,
            "level": "on" if forced else "off",
            "lock_timeout": lock_timeout,
        }
        for repeat in range(_REPEATS_MAX):
            try:
                written = _DECIDE.rows(connection, parameters)
            except DBAPIError as error:
                if _code(error) not in _NOT_WRITTEN or repeat == _REPEATS_MAX - 1:
                    raise
                time.sleep(0.01 * (repeat + 1))
                continue
            self.observe(max((row[2] or 0 for row in written), default=0))
            return {row[0]: Decision(row[1]) for row in written}
        raise AssertionError("unreachable")


def _read(connection: Connection, statement: Any, ids: str) -> dict[TransactionId, Decision]:
    return {row[0]: Decision(row[1]) for row in connection.execute(statement, {"ids": ids})}


def _as_outcomes(decided: Mapping[TransactionId, Decision]) -> Outcomes:
    return Outcomes(
        confirmed=[each for each, decision in decided.items() if decision is Decision.CONFIRMED],
        cancelled=[each for each, decision in decided.items() if decision is Decision.CANCELLED],
    )


def _code(error: DBAPIError) -> str | None:
    return getattr(error.orig, "pgcode", None)
