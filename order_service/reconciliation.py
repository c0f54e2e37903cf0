"""Writing lost orders into the log again, from what the three participants have kept of them (R12).

The amount and the user stand in payment's branch, the items with their prices in stock's, the slot
and the courier in delivery's, the Idempotency-Key in the memo of each. A row that is rebuilt is the
row that was lost; the law of the log stays: insert only, first writer wins.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from order_service.decision_log import SqlDecisionLog
from order_service.order import OrderRecord, payloads_of, row_of, tombstone
from two_phase.coordinator.decision_log import LogStatus
from two_phase.coordinator.rebuild import Lost
from two_phase.coordinator.verdict import Transaction, Verdict
from two_phase.messages import Decision, Outcomes, Vote
from two_phase.sql import id_array

log = logging.getLogger(__name__)

_PROMISED = ("prepared", "committed")

_REBUILD = text("""
    WITH lost AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS lost (
            transaction_id uuid, status text, generation bigint, user_id bigint, slot_id bigint, items jsonb, total numeric,
            courier text, refusals jsonb, idempotency_key text, request_digest text
        )
    ), claimed AS (
        INSERT INTO claims (user_id, idempotency_key, transaction_id, request_digest, expires_at)
        SELECT user_id, idempotency_key, transaction_id, request_digest, clock_timestamp() FROM lost
        WHERE idempotency_key IS NOT NULL ORDER BY user_id, idempotency_key
        ON CONFLICT DO NOTHING
    )
    INSERT INTO orders (transaction_id, status, generation, user_id, slot_id, items, total, courier, refusals,
                        idempotency_key, request_digest)
    SELECT transaction_id, status, generation, user_id, slot_id, items, total, courier, coalesce(refusals, '[]'),
           idempotency_key, request_digest
    FROM lost ORDER BY transaction_id
    ON CONFLICT DO NOTHING
""")
_RESUME = text("""
    WITH now AS MATERIALIZED (SELECT CAST(sum(written) AS bigint) AS written FROM log_counters), raised AS (
        UPDATE log_state SET generation = generation + 1 WHERE (SELECT written FROM now) < :log_counter
    ), lifted AS (
        UPDATE log_counters SET written = written + :log_counter - (SELECT written FROM now)
        WHERE slot = 0 AND (SELECT written FROM now) < :log_counter
    )
    DELETE FROM restored_participants WHERE participant = ANY (CAST(:reconciled AS text[]))
""")


class SqlReconciliation:
    """The operator's side of the log."""

    def __init__(self, decision_log: SqlDecisionLog) -> None:
        self._log = decision_log

    async def status(self) -> LogStatus:
        """Return how far the log has come."""
        return await self._log.status()

    async def hold(self, restored: Sequence[str]) -> None:
        """Let all replicas know that these participants were restored."""
        for participant in restored:
            await self._log.note_restored(participant)

    async def rebuild(self, lost: Sequence[Lost]) -> Outcomes:
        """Write what was lost; see Reconciliation."""
        rows = [row for each in lost if (row := rebuilt(each)) is not None]

        ids = [row["transaction_id"] for row in rows]

        def written(connection: Connection) -> Outcomes:
            connection.execute(_REBUILD, {"rows": json.dumps(rows)})
            said = self._log.found(connection, ids)
            if lost_key := without_answer(rows, said):
                connection.execute(_REBUILD, {"rows": json.dumps(lost_key)})
                said = self._log.found(connection, ids)
            return said

        log.warning("lost decisions are written again", extra={"transactions": len(rows)})
        return await self._log.run(written)

    async def resume(self, log_counter: int, reconciled: Sequence[str]) -> None:
        """Let orders flow again; see Reconciliation."""
        parameters = {"log_counter": log_counter, "reconciled": id_array(reconciled)}
        log.warning(
            "reconciled", extra={"log_counter": log_counter, "participants": list(reconciled)}
        )
        await self._log.run(lambda connection: connection.execute(_RESUME, parameters))


def without_answer(rows: Sequence[dict[str, Any]], said: Outcomes) -> list[dict[str, Any]]:
    """Return the refusals among ``rows`` that were not written, because another order has answered for their key."""
    missing = [
        row for row in rows if row["transaction_id"] not in {*said.confirmed, *said.cancelled}
    ]
    return [tombstone(row) for row in missing if row["status"] == Decision.CANCELLED]


def rebuilt(lost: Lost) -> dict[str, Any] | None:
    """Return the row that was lost, or None if the branches cannot tell it."""
    try:
        return _rebuilt(lost)
    except (KeyError, TypeError, ValueError, AttributeError) as failure:
        # These are no branches of an order: something is missing in them, or is of another kind.
        log.warning("a lost decision has no branches of an order", extra={"why": repr(failure)})
        return None


def _rebuilt(lost: Lost) -> dict[str, Any] | None:
    generation = max((int(branch["generation"]) for branch in lost.branches.values()), default=1)
    bare = {"transaction_id": lost.transaction_id, "generation": generation}
    record = _record(lost.branches)
    if lost.decision is Decision.CANCELLED:
        return (
            row_of(_verdict(lost, record), generation)
            if record
            else _refusal(lost, generation) or tombstone(bare)
        )
    promised = record is not None and all(
        branch["state"] in _PROMISED for branch in lost.branches.values()
    )
    return row_of(_verdict(lost, record), generation) if record and promised else None


def _record(branches: Mapping[str, Mapping[str, Any]]) -> OrderRecord | None:
    """Return what the order was about, if all three participants know their part and agree."""
    payloads = {
        name: branch["payload"]
        for name, branch in branches.items()
        if branch["payload"] is not None
    }
    if payloads.keys() != {"payment", "stock", "delivery"}:
        return None
    items = tuple(dict(item) for item in payloads["stock"]["items"])
    record = _keyed(
        branches, payloads["payment"]["user_id"], payloads["delivery"]["slot_id"], items
    )
    return record if payloads_of(record) == payloads else None


def _keyed(
    branches: Mapping[str, Mapping[str, Any]], user_id: int, slot_id: int, items: Any
) -> OrderRecord:
    memo: Mapping[str, Any] = next(
        (branch["memo"] for branch in branches.values() if branch["memo"]), {}
    )
    return OrderRecord(
        user_id,
        slot_id,
        items,
        memo.get("key"),
        memo.get("digest"),
        may_be_repeated=not memo.get("last", False),
    )


def _refusal(lost: Lost, generation: int) -> dict[str, Any] | None:
    """Return the answer to a key, where somebody had refused and another never heard what the order was about."""
    users = [branch["memo"]["user_id"] for branch in lost.branches.values() if branch["memo"]]
    if not users:
        return None
    row = row_of(_verdict(lost, _keyed(lost.branches, users[0], 0, ())), generation)
    return row | {"slot_id": None, "items": None, "total": None} if row.get("refusals") else None


def _verdict(lost: Lost, record: OrderRecord) -> Verdict:
    transaction = Transaction(lost.transaction_id, payloads_of(record), record=record)
    voted = {
        name: branch
        for name, branch in lost.branches.items()
        if branch["payload"] or branch["reason"]
    }
    votes = {name: _vote(lost.transaction_id, branch) for name, branch in voted.items()}
    return Verdict(transaction, lost.decision, votes)


def _vote(transaction_id: str, branch: Mapping[str, Any]) -> Vote:
    """Return what the participant had voted.

    An aborted branch without a reason had been prepared.
    """
    refused = branch["reason"] is not None
    return Vote(
        transaction_id=transaction_id,
        prepared=not refused,
        reason=branch["reason"],
        detail=branch["detail"],
        contended=branch["contended"],
        facts=branch["facts"],
    )
