"""The decision log on real PostgreSQL: who wins, who obeys, and who is not kept waiting."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from integration.decided import in_doubt, verdict
from two_phase.coordinator.decision_log import LoggedDecision
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.messages import Decision, new_transaction_id


async def test_the_first_decision_wins_and_the_second_obeys(decision_log: SqlDecisionLog) -> None:
    """R1: a coordinator that comes late cannot overrule what was decided meanwhile."""
    late = verdict()
    transaction_id = late.transaction.transaction_id

    asked = await decision_log.outcomes(in_doubt(transaction_id))
    decided = await decision_log.decide([late], 1, {})

    assert asked.cancelled == [transaction_id]
    assert decided == {transaction_id: LoggedDecision(Decision.CANCELLED, existed=True)}


async def test_the_same_insert_repeated_tells_what_became_of_the_first(
    decision_log: SqlDecisionLog,
) -> None:
    """R3: after a lost reply the insert is repeated; the row is found, and is the truth."""
    batch = [verdict(), verdict(refused="insufficient_funds")]
    ids = [each.transaction.transaction_id for each in batch]

    first = await decision_log.decide(batch, 1, {})
    second = await decision_log.decide(batch, 1, {})

    assert first == {
        ids[0]: LoggedDecision(Decision.CONFIRMED),
        ids[1]: LoggedDecision(Decision.CANCELLED),
    }
    assert second == {each: replace(row, existed=True) for each, row in first.items()}


async def test_a_decision_cannot_be_changed_even_by_hand(
    decision_log: SqlDecisionLog, order_engine: Engine
) -> None:
    """L2 stands in the schema too."""
    decided = verdict()
    await decision_log.decide([decided], 1, {})

    with pytest.raises(IntegrityError, match="never changes"), order_engine.begin() as connection:
        connection.execute(
            text("UPDATE orders SET status = 'cancelled' WHERE transaction_id = CAST(:id AS uuid)"),
            {"id": decided.transaction.transaction_id},
        )


async def test_peek_never_decides(decision_log: SqlDecisionLog) -> None:
    """R2: a GET that asks cannot cancel an order under way."""
    undecided = verdict()
    question = in_doubt(undecided.transaction.transaction_id)

    peeked = await decision_log.peek(question)
    decided = await decision_log.decide([undecided], 1, {})
    peeked_again = await decision_log.peek(question)

    assert (peeked.confirmed, peeked.cancelled) == ([], [])
    assert list(decided.values()) == [LoggedDecision(Decision.CONFIRMED)]
    assert peeked_again.confirmed == [undecided.transaction.transaction_id]


async def test_a_log_of_another_generation_writes_nothing(decision_log: SqlDecisionLog) -> None:
    """R12: what another generation began is not this log's to decide, neither by a decision nor by a question."""
    foreign = verdict()
    question = in_doubt(foreign.transaction.transaction_id, generation=2)

    decided = await decision_log.decide([foreign], 2, {})
    asked = await decision_log.outcomes(question)

    assert decided == {}
    assert (asked.confirmed, asked.cancelled) == ([], [])


async def test_one_hung_insert_does_not_keep_the_others_waiting(
    decision_log: SqlDecisionLog, admin: Engine
) -> None:
    """R1: a coordinator frozen between INSERT and COMMIT holds up its own transaction alone."""
    hung, free = new_transaction_id(), new_transaction_id()
    frozen = admin.connect()
    frozen.execute(
        text(
            "INSERT INTO order_service.orders (transaction_id, status, generation) VALUES (:id, 'cancelled', 1)"
        ),
        {"id": hung},
    )

    try:
        asked = await decision_log.outcomes(in_doubt(hung, free))
    finally:
        frozen.rollback()
        frozen.close()
    afterwards = await decision_log.outcomes(in_doubt(hung))

    assert asked.cancelled == [free]
    assert afterwards.cancelled == [hung]


async def test_asking_waits_for_the_insert_in_flight_and_tells_its_result(
    decision_log: SqlDecisionLog, admin: Engine
) -> None:
    """R3: a COMMIT whose client died may still land, so asking is an insert and no plain read."""
    flying = new_transaction_id()
    other = admin.connect()
    other.execute(
        text(
            "INSERT INTO order_service.orders (transaction_id, status, generation, user_id, slot_id, items, total, courier)"
            " VALUES (:id, 'confirmed', 1, 1, 1, '[]', 0, 'Olga')"
        ),
        {"id": flying},
    )

    asking = asyncio.create_task(decision_log.outcomes(in_doubt(flying)))
    await asyncio.sleep(0.1)
    assert not asking.done()
    other.rollback()
    other.close()
    landed_not = await asking

    assert landed_not.cancelled == [flying]


async def test_many_replicas_that_decide_and_ask_at_once_agree(
    decision_log: SqlDecisionLog,
) -> None:
    """F9: whoever is first, everybody tells the same, and nobody deadlocks."""
    batch = [verdict() for _ in range(20)]
    ids = [each.transaction.transaction_id for each in batch]

    *asked, decided = await asyncio.gather(
        decision_log.outcomes(in_doubt(*reversed(ids))),
        decision_log.outcomes(in_doubt(*ids)),
        decision_log.decide(batch, 1, {}),
    )
    truth = await decision_log.peek(in_doubt(*ids))

    assert {each for each, row in decided.items() if row.decision is Decision.CONFIRMED} == set(
        truth.confirmed
    )
    assert all(set(outcomes.cancelled) <= set(truth.cancelled) for outcomes in asked)
    assert all(set(outcomes.confirmed) <= set(truth.confirmed) for outcomes in asked)
