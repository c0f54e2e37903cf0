"""The decision log in PostgreSQL: the table of orders, written by compare-and-set and never changed.

Every write is one autocommitted statement, so that a coordinator frozen at any point holds no transaction open. Its winner is
read in a second statement, because in the same one it is invisible; that read is a forced write of its own, because a row
found is not a row flushed (rule 4).
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from two_phase import faults
from two_phase.branches import id_array
from two_phase.coordinator import Verdict
from two_phase.decision_log import Recorded
from two_phase.protocol import Decision, InDoubt, Outcomes, TransactionId

T = TypeVar("T")

#: Waits for a decision insert that is still in flight end after this time; then the same insert may be repeated.
_DECIDE_LOCK_TIMEOUT = "2s"
_ASK_LOCK_TIMEOUT = "500ms"
_REPEATS_MAX = 5
_NOT_WRITTEN = {"40001", "40P01"}  # serialization failure, deadlock: nothing was written, the same insert is safe
_LOCK_TIMEOUT = "55P03"

_DECIDE = text("""
    WITH level AS MATERIALIZED (
        SELECT set_config('synchronous_commit', :level, true), set_config('lock_timeout', :lock_timeout, true)
    )
    INSERT INTO orders (transaction_id, status, generation, user_id, slot_id, items, total, courier, refusals,
                        idempotency_key, request_digest)
    SELECT transaction_id, status, decision.generation, user_id, slot_id, items, total, courier, coalesce(refusals, '[]'),
           idempotency_key, request_digest
    FROM level, json_to_recordset(CAST(:rows AS json)) AS decision (
        transaction_id uuid, status text, generation bigint, user_id bigint, slot_id bigint, items jsonb, total numeric,
        courier text, refusals jsonb, idempotency_key text, request_digest text
    )
    JOIN log_state ON log_state.generation = decision.generation
    ORDER BY transaction_id
    ON CONFLICT DO NOTHING
    RETURNING transaction_id::text, status
""")
_FOUND = text("""
    WITH forced AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'two_phase', ''))
    SELECT transaction_id::text, status FROM forced, orders WHERE transaction_id = ANY (CAST(:ids AS uuid[]))
""")
_PEEK = text("SELECT transaction_id::text, status FROM orders WHERE transaction_id = ANY (CAST(:ids AS uuid[]))")
_GENERATION = text("SELECT generation FROM log_state")


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """What the log keeps of an order beside its decision; ``items`` are dicts of product_id, quantity and price."""

    user_id: int
    slot_id: int
    items: tuple[dict[str, int | None], ...]
    key: str | None = None
    digest: str | None = None
    #: Another attempt follows where only a stale price or undecided orders stood in the way.
    may_be_repeated: bool = True

    @property
    def total(self) -> int | None:
        """The price of everything, or None while a price is unknown."""
        amounts = [None if price is None else price * quantity for price, quantity in self.priced()]
        return None if None in amounts else sum(amount for amount in amounts if amount is not None)

    def priced(self) -> list[tuple[int | None, int]]:
        """Return the price, if it is known, and the quantity of each item."""
        return [(item["price"], item["quantity"] or 0) for item in self.items]


def payloads_of(record: OrderRecord) -> dict[str, dict[str, Any]]:
    """Return what each participant is asked for; the auditor holds their branches against the same."""
    return {
        # Without a price the order is refused by stock anyway, so nothing is asked of the account.
        "payment": {"user_id": record.user_id, "amount": record.total or 0},
        "stock": {"items": list(record.items)},
        "delivery": {"slot_id": record.slot_id},
    }


class SqlDecisionLog:
    """The log of all replicas of order_service; blocking calls run in ``executor``."""

    def __init__(self, engine: Engine, executor: Executor) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._executor = executor

    async def generation(self) -> int:
        """Return the log's generation."""
        return await self.run(lambda connection: int(connection.execute(_GENERATION).scalar_one()))

    async def decide(self, verdicts: Sequence[Verdict], generation: int) -> Mapping[TransactionId, Recorded]:
        """Write the verdicts, first writer wins; see DecisionLog."""
        rows = [_row(verdict, generation) for verdict in verdicts]
        forced = any(row["status"] == Decision.CONFIRMED or row["idempotency_key"] for row in rows)
        return await self.run(lambda connection: _decided(connection, rows, forced=forced))

    async def outcomes(self, transactions: Sequence[InDoubt]) -> Outcomes:
        """Return the decisions on ``transactions``; one that is unknown is cancelled first, durably."""
        decided = await self.run(lambda connection: self.ask(connection, transactions))
        faults.crash_point("outcomes_durable")
        return _as_outcomes(decided)

    def ask(self, connection: Connection, transactions: Sequence[InDoubt]) -> dict[TransactionId, Decision]:
        """Return the decisions on ``transactions`` by an insert that waits for one in flight; one that hangs is left out."""
        rows = [_tombstone(each.model_dump()) for each in transactions]
        try:
            _inserted(connection, rows, forced=True, lock_timeout=_ASK_LOCK_TIMEOUT)
            answered = rows
        except DBAPIError as error:
            if _code(error) != _LOCK_TIMEOUT:
                raise
            answered = [row for row in rows if _inserted_alone(connection, row)]
        return _read(connection, _FOUND, id_array([row["transaction_id"] for row in answered]))

    async def peek(self, transactions: Sequence[InDoubt]) -> Outcomes:
        """Return the decisions recorded by now; only where there are any is a flush worth its while (rule 4)."""

        def peeked(connection: Connection) -> dict[TransactionId, Decision]:
            recorded = _read(connection, _PEEK, id_array([each.transaction_id for each in transactions]))
            return _read(connection, _FOUND, id_array(list(recorded))) if recorded else {}

        return _as_outcomes(await self.run(peeked))

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run blocking ``work`` on an autocommitting connection, in the log's own threads."""

        def connected() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, connected)


def _decided(connection: Connection, rows: Sequence[dict[str, Any]], *, forced: bool) -> dict[TransactionId, Recorded]:
    """Insert ``rows``, and return what the log says of each; those of another generation are left out."""
    written = _inserted(connection, rows, forced=forced, lock_timeout=_DECIDE_LOCK_TIMEOUT)
    decided = {transaction_id: Recorded(decision) for transaction_id, decision in written.items()}
    missing = [row for row in rows if row["transaction_id"] not in written]
    if not missing:
        return decided
    found = _read(connection, _FOUND, id_array([row["transaction_id"] for row in missing]))
    lost_key = [_tombstone(row) for row in missing if row["transaction_id"] not in found and row["idempotency_key"]]
    if lost_key:
        # Another transaction has answered for this key: this one can only be cancelled, and then says so itself.
        found |= {
            transaction_id: row.decision for transaction_id, row in _decided(connection, lost_key, forced=True).items()
        }
    return decided | {transaction_id: Recorded(decision, found=True) for transaction_id, decision in found.items()}


def _inserted_alone(connection: Connection, row: dict[str, Any]) -> bool:
    """Ask about one transaction; one whose decision hangs in flight must not hold up the others."""
    try:
        _inserted(connection, [row], forced=True, lock_timeout="50ms")
    except DBAPIError as error:
        if _code(error) != _LOCK_TIMEOUT:
            raise
        return False
    return True


def _inserted(
    connection: Connection, rows: Sequence[dict[str, Any]], *, forced: bool, lock_timeout: str
) -> dict[TransactionId, Decision]:
    parameters = {"rows": json.dumps(rows), "level": "on" if forced else "off", "lock_timeout": lock_timeout}
    for repeat in range(_REPEATS_MAX):
        try:
            return {row[0]: Decision(row[1]) for row in connection.execute(_DECIDE, parameters)}
        except DBAPIError as error:
            if _code(error) not in _NOT_WRITTEN or repeat == _REPEATS_MAX - 1:
                raise
            time.sleep(0.01 * (repeat + 1))
    raise AssertionError("unreachable")


def _read(connection: Connection, statement: Any, ids: str) -> dict[TransactionId, Decision]:
    return {row[0]: Decision(row[1]) for row in connection.execute(statement, {"ids": ids})}


def is_repeatable(verdict: Verdict) -> bool:
    """Return whether nothing but a stale price or undecided orders stood in this order's way (rules 9 and 11)."""
    refusals = verdict.refusals.values()
    stale_price = any(vote.reason == "price_changed" for vote in refusals)
    return bool(refusals) and (stale_price or all(vote.contended for vote in refusals))


def is_repeated(verdict: Verdict) -> bool:
    """Return whether another attempt follows, which the customer hears of instead of this one."""
    return verdict.transaction.record.may_be_repeated and is_repeatable(verdict) and not verdict.silent


def refusals_of(verdict: Verdict) -> list[dict[str, str | None]]:
    """Return the refusals as the customer sees them; none if this is no final answer."""
    if is_repeated(verdict) or (verdict.silent and is_repeatable(verdict)):
        return []
    return [{"participant": name, "reason": vote.reason, "detail": vote.detail} for name, vote in verdict.refusals.items()]


def _row(verdict: Verdict, generation: int) -> dict[str, Any]:
    transaction_id, record = verdict.transaction.transaction_id, verdict.transaction.record
    bare = {"transaction_id": transaction_id, "generation": generation}
    if is_repeated(verdict):
        # The customer hears of the next attempt alone, so this one leaves no order to look at.
        return _tombstone(bare)
    confirmed = verdict.decision is Decision.CONFIRMED
    refusals = refusals_of(verdict)
    final = confirmed or bool(refusals)
    return bare | {
        "status": verdict.decision,
        "user_id": record.user_id,
        "slot_id": record.slot_id,
        "items": record.items,
        "total": record.total,
        "courier": str(verdict.votes["delivery"].facts.get("courier", "")) if confirmed else None,
        "refusals": refusals,
        "idempotency_key": record.key if final else None,
        "request_digest": record.digest if final else None,
    }


def _tombstone(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "transaction_id": row["transaction_id"],
        "generation": row["generation"],
        "status": Decision.CANCELLED,
        "idempotency_key": None,
    }


def _as_outcomes(decided: Mapping[TransactionId, Decision]) -> Outcomes:
    return Outcomes(
        confirmed=[each for each, decision in decided.items() if decision is Decision.CONFIRMED],
        cancelled=[each for each, decision in decided.items() if decision is Decision.CANCELLED],
    )


def _code(error: DBAPIError) -> str | None:
    return getattr(error.orig, "pgcode", None)
