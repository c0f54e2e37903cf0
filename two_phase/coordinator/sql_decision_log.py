"""The decision log in PostgreSQL, over the application's own table.

A row of that table is the decision on a transaction: written by compare-and-set, never changed.

Every write is one autocommitted statement, so that a coordinator frozen at any point holds no
transaction open. Its winner is read in a second statement, because in the same one it is invisible;
that read is a forced write of its own, because a row found is not a row flushed (R4).

The same statement counts, and compares: a log of another generation, or one that was further when
a process saw it, writes nothing (R12). The counter is the sum over sixteen rows, for the reasons
that ``two_phase.participant.round_counter`` gives.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from threading import Lock
from typing import Any, TypeVar

from pydantic_core import to_json
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from two_phase import crash_points
from two_phase.coordinator.decision_log import LOG, LoggedDecision, LogStatus
from two_phase.coordinator.log_statements import (
    NOTE,
    STATUS,
    WRITTEN,
    LogStatements,
    Row,
    tombstone,
)
from two_phase.coordinator.verdict import Verdict
from two_phase.errors import Unavailable
from two_phase.messages import Decision, InDoubt, Outcomes, TransactionId
from two_phase.sql import id_array

T = TypeVar("T")
#: The application's columns of the row that a verdict wants to write.
RowOf = Callable[[Verdict], Mapping[str, Any]]

#: Waits for a decision insert that is still in flight end after this time; then the same insert may
#: be repeated.
_DECIDE_LOCK_TIMEOUT = "2s"
_ASK_LOCK_TIMEOUT = "500ms"
_ASK_ALONE_LOCK_TIMEOUT = "50ms"
_REPEATS_MAX = 5
#: Serialization failure, deadlock: nothing was written, the same insert is safe.
_NOT_WRITTEN = {"40001", "40P01"}
_LOCK_TIMEOUT = "55P03"


class SqlDecisionLog:
    """The log of all replicas of a coordinator.

    ``engine`` must autocommit, and blocking calls run in ``executor``. ``row_of`` returns the
    application's columns of the row that a verdict wants to write, ``idempotency_key`` and
    ``request_digest`` among them if it is the final answer to a request with a key.

    A log that is not ``opened`` tells what it has recorded, and decides nothing that it is asked
    about, until ``open``.
    """

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        statements: LogStatements,
        row_of: RowOf,
        *,
        opened: bool = True,
    ) -> None:
        self._engine = engine
        self._executor = executor
        self.statements = statements
        self._row_of = row_of
        self._opened = opened
        self._log_position = 0
        self._observing = Lock()

    @property
    def log_position(self) -> int:
        """How far the log had come, as far as this process knows."""
        return self._log_position

    def observe(self, log_seen: int) -> None:
        """Know that a process has seen the log at ``log_seen``."""
        with self._observing:
            self._log_position = max(self._log_position, log_seen)

    def open(self) -> None:
        """Decide what is asked about from now on."""
        self._opened = True

    async def status(self) -> LogStatus:
        """Return how far the log has come; see DecisionLog."""

        def looked(connection: Connection) -> LogStatus:
            generation, written, heard, restored = connection.execute(STATUS).one()
            if written > self._log_position:
                # A counter that was read may be written and not flushed yet, and would then be seen
                # to fall.
                self.observe(connection.execute(WRITTEN).scalar_one())
            return LogStatus(generation, written, heard, frozenset(restored))

        return await self.run(looked)

    async def note_restored(self, name: str, seen: int = 0) -> None:
        """Let all replicas know that one was restored from an older backup; see DecisionLog."""
        await self.run(lambda connection: connection.execute(NOTE, {"name": name, "seen": seen}))

    async def decide(
        self, verdicts: Sequence[Verdict], generation: int, heard: Mapping[str, int]
    ) -> Mapping[TransactionId, LoggedDecision]:
        """Write the verdicts, first writer wins; see DecisionLog."""
        rows = [self._row(verdict, generation) for verdict in verdicts]
        forced = any(row["status"] == Decision.CONFIRMED or row["idempotency_key"] for row in rows)
        return await self.run(
            lambda connection: self._decided(
                connection, rows, to_json(heard).decode(), forced=forced
            )
        )

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Return the decisions on ``transactions``; unknown ones are cancelled first, durably."""
        self.observe(log_seen)
        ids = [each.transaction_id for each in transactions]
        work = self.ask if self._opened else lambda connection, _: self._found(connection, ids)
        decided = await self.run(lambda connection: work(connection, transactions))
        crash_points.reach("outcomes_durable")
        return _as_outcomes(decided)

    def ask(
        self, connection: Connection, transactions: Sequence[InDoubt]
    ) -> dict[TransactionId, Decision]:
        """Return the decisions, by an insert that waits for one in flight; hung ones left out."""
        rows = [tombstone(each.model_dump()) for each in transactions]
        try:
            self._inserted(connection, rows, forced=True, lock_timeout=_ASK_LOCK_TIMEOUT)
            answered = rows
        except DBAPIError as error:
            if _code(error) != _LOCK_TIMEOUT:
                raise
            answered = [row for row in rows if self._inserted_alone(connection, row)]
        return self._found(connection, _ids(answered))

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Return the decisions recorded by now, flushed if there are any (R4)."""
        self.observe(log_seen)

        def peeked(connection: Connection) -> dict[TransactionId, Decision]:
            known = self._log_position
            ids = [each.transaction_id for each in transactions]
            recorded = _read(connection, self.statements.peek, ids)
            if len(recorded) < len(transactions):
                _, written, _, restored = connection.execute(STATUS).one()
                if written < known or LOG in restored:
                    raise Unavailable(
                        "the decision log was restored, and may have forgotten what it had told"
                    )
            return self._found(connection, list(recorded)) if recorded else {}

        return _as_outcomes(await self.run(peeked))

    async def row(self, transaction_id: TransactionId) -> Row | None:
        """Return the application's row of a transaction, or None while it is undecided."""
        rows = await self._rows(self.statements.one, {"id": transaction_id})
        return rows[0] if rows else None

    async def decisions(self, after: TransactionId, limit: int) -> list[Row]:
        """Return up to ``limit`` rows by id, behind ``after``, with their age in seconds."""
        return await self._rows(self.statements.decisions, {"after": after, "limit": limit})

    async def _rows(self, statement: Any, parameters: Row) -> list[Row]:
        def read(connection: Connection) -> list[Row]:
            rows = connection.execute(statement, parameters).mappings()
            return [dict(row) | {"transaction_id": str(row["transaction_id"])} for row in rows]

        return await self.run(read)

    def found(self, connection: Connection, ids: Sequence[TransactionId]) -> Outcomes:
        """Return what the log says of ``ids``, durably."""
        return _as_outcomes(self._found(connection, ids))

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run blocking ``work`` on an autocommitting connection, in the log's own threads."""

        def connected() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, connected)

    def _found(
        self, connection: Connection, ids: Sequence[TransactionId]
    ) -> dict[TransactionId, Decision]:
        return _read(connection, self.statements.found, ids)

    def _row(self, verdict: Verdict, generation: int) -> Row:
        transaction = verdict.transaction
        return {
            "idempotency_key": None,
            **self._row_of(verdict),
            "transaction_id": transaction.transaction_id,
            "generation": generation,
            "status": verdict.decision,
            "participants": list(transaction.payloads),
        }

    def _decided(
        self, connection: Connection, rows: Sequence[Row], heard: str, *, forced: bool
    ) -> dict[TransactionId, LoggedDecision]:
        """Insert ``rows``, and return what the log says of each that is this log's to decide."""
        written = self._inserted(
            connection, rows, heard, forced=forced, lock_timeout=_DECIDE_LOCK_TIMEOUT
        )
        decided = {each: LoggedDecision(decision) for each, decision in written.items()}
        missing = [row for row in rows if row["transaction_id"] not in written]
        if not missing:
            return decided
        found = self._found(connection, _ids(missing))
        lost_key = [
            tombstone(row)
            for row in missing
            if row["transaction_id"] not in found and row["idempotency_key"]
        ]
        if lost_key:
            # Another transaction has answered for this key: this one can only be cancelled, and
            # then says so itself.
            cancelled = self._decided(connection, lost_key, heard, forced=True)
            found |= {each: row.decision for each, row in cancelled.items()}
        return decided | {
            each: LoggedDecision(decision, existed=True) for each, decision in found.items()
        }

    def _inserted_alone(self, connection: Connection, row: Row) -> bool:
        """Ask about one transaction: a decision that hangs in flight holds up no other."""
        try:
            self._inserted(connection, [row], forced=True, lock_timeout=_ASK_ALONE_LOCK_TIMEOUT)
        except DBAPIError as error:
            if _code(error) != _LOCK_TIMEOUT:
                raise
            return False
        return True

    def _inserted(
        self,
        connection: Connection,
        rows: Sequence[Row],
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
                written = self.statements.decide.rows(connection, parameters)
            except DBAPIError as error:
                if _code(error) not in _NOT_WRITTEN or repeat == _REPEATS_MAX - 1:
                    raise
                time.sleep(0.01 * (repeat + 1))
                continue
            self.observe(max((row[2] or 0 for row in written), default=0))
            return {row[0]: Decision(row[1]) for row in written}
        raise AssertionError("unreachable")


def _ids(rows: Sequence[Row]) -> list[TransactionId]:
    return [row["transaction_id"] for row in rows]


def _read(
    connection: Connection, statement: Any, ids: Sequence[TransactionId]
) -> dict[TransactionId, Decision]:
    rows = connection.execute(statement, {"ids": id_array(ids)})
    return {row[0]: Decision(row[1]) for row in rows}


def _as_outcomes(decided: Mapping[TransactionId, Decision]) -> Outcomes:
    return Outcomes(
        confirmed=[each for each, decision in decided.items() if decision is Decision.CONFIRMED],
        cancelled=[each for each, decision in decided.items() if decision is Decision.CANCELLED],
    )


def _code(error: DBAPIError) -> str | None:
    return getattr(error.orig, "pgcode", None)
