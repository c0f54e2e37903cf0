"""A log that was restored from an older backup, on real PostgreSQL.

What is rebuilt is what was lost, whoever else writes.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from order_service.models import LOG
from order_service.order import OrderRecord, memo_of, payloads_of, row_of, row_of_lost
from two_phase.coordinator.idempotency import Answered, Claimed, Claims, KeyRequest, Reused
from two_phase.coordinator.rebuild import Lost, SqlReconciliation
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.verdict import Transaction, Verdict, judge
from two_phase.messages import Decision, InDoubt, TransactionId, Vote, new_transaction_id

RECORD = OrderRecord(
    7,
    3,
    ({"product_id": 1, "quantity": 2, "price": 10}, {"product_id": 2, "quantity": 1, "price": 5}),
)
FACTS = {"payment": {}, "stock": {}, "delivery": {"courier": "Mila"}}
_ROW = """
    SELECT status, generation, user_id, slot_id, items, total, courier, refusals, idempotency_key, request_digest, participants
    FROM orders WHERE transaction_id = CAST(:id AS uuid)
"""


@pytest.fixture
def decision_log(log_engine: Engine) -> Iterator[SqlDecisionLog]:
    """Return a log as one replica has it."""
    with ThreadPoolExecutor(2) as executor:
        yield SqlDecisionLog(log_engine, executor, LOG, row_of)


@pytest.fixture
def reconciliation(
    decision_log: SqlDecisionLog, order_engine: Engine
) -> Iterator[SqlReconciliation]:
    """Return the operator's side of the log; its generation is as before when a test ends."""
    yield SqlReconciliation(decision_log, row_of_lost)
    with order_engine.begin() as connection:
        connection.execute(text("UPDATE log_state SET generation = 1"))


def _with_key() -> OrderRecord:
    return replace(RECORD, key=new_transaction_id(), digest="digest")


def _verdict(record: OrderRecord, **refused: dict[str, Any]) -> Verdict:
    transaction = Transaction(new_transaction_id(), payloads_of(record), (), record)
    votes = {
        name: Vote(
            transaction_id=transaction.transaction_id,
            prepared=name not in refused,
            **refused.get(name, {}),
            facts=facts,
        )
        for name, facts in FACTS.items()
    }
    return judge(transaction, votes)


def _lost(verdict: Verdict) -> Lost:
    """Return what an auditor sees of the branches, when their decision has been heard everywhere."""
    record = verdict.transaction.record
    state = "committed" if verdict.decision is Decision.CONFIRMED else "aborted"
    branches = {
        name: {
            "transaction_id": verdict.transaction.transaction_id,
            "state": state,
            "generation": 1,
            "payload": payload,
            "facts": dict(verdict.votes[name].facts),
            "reason": verdict.votes[name].reason,
            "detail": verdict.votes[name].detail,
            "contended": verdict.votes[name].contended,
            "memo": memo_of(record),
            "age_seconds": 1.5,
        }
        for name, payload in payloads_of(record).items()
    }
    sent = {
        "transaction_id": verdict.transaction.transaction_id,
        "decision": verdict.decision,
        "branches": branches,
    }
    return Lost.model_validate_json(json.dumps(sent))


def _row(engine: Engine, transaction_id: TransactionId) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(_ROW), {"id": transaction_id}).one_or_none()


TOO_DEAR = {"reason": "insufficient_funds", "detail": "user 7 has less than 25"}
BUSY = {"reason": "out_of_stock", "detail": "held by others", "contended": True}
VERDICTS = {
    "confirmed": lambda: _verdict(RECORD),
    "confirmed, with a key": lambda: _verdict(_with_key()),
    "refused": lambda: _verdict(RECORD, payment=TOO_DEAR),
    "refused, with a key": lambda: _verdict(_with_key(), payment=TOO_DEAR),
    "refused by two, with a key": lambda: _verdict(_with_key(), payment=TOO_DEAR, stock=BUSY),
    "tried again, with a key": lambda: _verdict(_with_key(), stock=BUSY),
}


@pytest.mark.parametrize("kind", VERDICTS)
async def test_a_row_that_is_rebuilt_is_the_row_that_was_lost(
    decision_log: SqlDecisionLog,
    reconciliation: SqlReconciliation,
    order_engine: Engine,
    admin: Engine,
    kind: str,
) -> None:
    """R12: amounts, items, slot, courier, refusals and key stand in the branches.

    And it is written once.
    """
    verdict = VERDICTS[kind]()
    transaction_id = verdict.transaction.transaction_id
    await decision_log.decide([verdict], 1, {})
    before = _row(order_engine, transaction_id)
    with admin.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = 'replica'"))
        connection.execute(
            text("DELETE FROM order_service.orders WHERE transaction_id = :id"),
            {"id": transaction_id},
        )
    assert _row(order_engine, transaction_id) is None

    said = [await reconciliation.rebuild([_lost(verdict)]) for _ in range(2)]

    assert before is not None
    assert _row(order_engine, transaction_id) == before
    assert {*said[0].confirmed, *said[0].cancelled} == {transaction_id}
    assert said[0] == said[1]


async def test_a_rebuilt_key_has_its_answer(
    decision_log: SqlDecisionLog, reconciliation: SqlReconciliation
) -> None:
    """R11: the same request gets the same order after the log was lost, and another one with this key is refused."""
    verdict = _verdict(_with_key())
    key = verdict.transaction.record.key
    await reconciliation.rebuild([_lost(verdict)])
    claims = Claims(decision_log, claim_seconds=1000)

    same = await claims.claim(KeyRequest(7, key, "digest", new_transaction_id()))
    other = await claims.claim(KeyRequest(7, key, "another", new_transaction_id()))
    new = await claims.claim(KeyRequest(7, new_transaction_id(), "digest", new_transaction_id()))

    assert (same, new) == (Answered(verdict.transaction.transaction_id), Claimed())
    assert isinstance(other, Reused)


async def test_a_decision_that_is_there_is_not_rebuilt(
    decision_log: SqlDecisionLog, reconciliation: SqlReconciliation
) -> None:
    """L2: first writer wins, an operator's tool like anybody else."""
    verdict = _verdict(RECORD)
    await decision_log.outcomes(
        [InDoubt(transaction_id=verdict.transaction.transaction_id, generation=1)]
    )

    said = await reconciliation.rebuild([_lost(verdict)])

    assert (said.confirmed, said.cancelled) == ([], [verdict.transaction.transaction_id])


@pytest.mark.parametrize("what", ["missing", "aborted", "another amount"])
async def test_what_the_branches_do_not_prove_is_not_confirmed(
    reconciliation: SqlReconciliation, what: str
) -> None:
    """L1: no confirmed order without three branches that promise it, of the same order."""
    verdict = _verdict(RECORD)
    lost = _lost(verdict)
    if what == "missing":
        del lost.branches["stock"]
    elif what == "aborted":
        lost.branches["stock"]["state"] = "aborted"
    else:
        lost.branches["payment"]["payload"]["amount"] = 1

    said = await reconciliation.rebuild([lost])

    assert (said.confirmed, said.cancelled) == ([], [])


async def test_a_log_goes_on_once_in_a_new_generation(
    decision_log: SqlDecisionLog, reconciliation: SqlReconciliation
) -> None:
    """R12: it is lifted above what was seen of it; said again, it changes nothing.

    And what was begun before is not its own.
    """
    before = await decision_log.status()
    await reconciliation.hold(["stock", "payment"])

    for _ in range(2):
        await reconciliation.resume(before.log_position + 10, ["stock"])
    after = await decision_log.status()
    decided = await decision_log.decide([_verdict(RECORD)], before.generation, {})
    await reconciliation.resume(0, ["payment"])

    assert (after.generation, after.log_position, after.restored) == (
        before.generation + 1,
        before.log_position + 10,
        {"payment"},
    )
    assert decided == {}
    assert await decision_log.status() == replace(after, restored=frozenset())
