"""Keys and claims on real PostgreSQL: one answer for a key, whichever replica it is asked of."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, text

from integration.decided import a_key, in_doubt, verdict
from order_service.order import OrderRecord
from two_phase.coordinator.decision_log import LoggedDecision
from two_phase.coordinator.idempotency import Answered, Busy, Claimed, Claims, KeyRequest, Reused
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.messages import Decision, new_transaction_id


async def test_two_transactions_with_one_key_have_one_winner(decision_log: SqlDecisionLog) -> None:
    """R1: who loses the key writes `cancelled` for its own id."""
    record = a_key("two")
    first, second = verdict(record=record), verdict(record=record)

    won = await decision_log.decide([first], 1, {})
    lost = await decision_log.decide([second], 1, {})

    assert list(won.values()) == [LoggedDecision(Decision.CONFIRMED)]
    assert list(lost.values()) == [LoggedDecision(Decision.CANCELLED, existed=True)]
    assert (await decision_log.peek(in_doubt(second.transaction.transaction_id))).cancelled


def wanted(record: OrderRecord, **changes: Any) -> KeyRequest:
    """Return the request that ``record`` answers, for a new transaction."""
    assert record.key
    return replace(KeyRequest(record.user_id, record.key, "d", new_transaction_id()), **changes)


async def test_a_claimed_key_is_busy_until_it_is_answered(decision_log: SqlDecisionLog) -> None:
    """R11: the second request waits, and then gets the first one's answer."""
    claims = Claims(decision_log, claim_seconds=30)
    record = a_key("busy")
    first, second = wanted(record), wanted(record)

    standings = [await claims.claim(first), await claims.claim(second)]
    await decision_log.decide([verdict(record=record, transaction_id=first.transaction_id)], 1, {})

    assert isinstance(standings[0], Claimed)
    assert isinstance(standings[1], Busy)
    assert await claims.claim(second) == Answered(first.transaction_id)
    assert isinstance(await claims.claim(wanted(record, digest="another")), Reused)


async def test_who_takes_a_claim_over_fences_its_holder_first(decision_log: SqlDecisionLog) -> None:
    """R11: after the take-over the earlier transaction can only be cancelled, and is aborted by the later one's prepares."""
    claims = Claims(decision_log, claim_seconds=0)
    record = a_key("fence")
    slow, quick = wanted(record), wanted(record)
    await claims.claim(slow)

    status = await claims.claim(quick)
    too_late = await decision_log.decide(
        [verdict(record=record, transaction_id=slow.transaction_id)], 1, {}
    )

    assert status == Claimed((slow.transaction_id,))
    assert too_late == {slow.transaction_id: LoggedDecision(Decision.CANCELLED, existed=True)}


async def test_a_released_claim_is_taken_over_at_once(decision_log: SqlDecisionLog) -> None:
    """R11: a 503 does not hold the key."""
    claims = Claims(decision_log, claim_seconds=30)
    record = a_key("release")
    sent_away, again = wanted(record), wanted(record)
    await claims.claim(sent_away)

    await claims.release(sent_away)

    assert await claims.claim(again) == Claimed((sent_away.transaction_id,))


async def test_a_claim_from_before_the_clock_went_back_is_taken_over(
    decision_log: SqlDecisionLog, order_engine: Engine
) -> None:
    """Clocks decide when to lose patience.

    One that was a month ahead must not keep a customer waiting for a month.
    """
    claims = Claims(decision_log, claim_seconds=30)
    record = a_key("future")
    before, after = wanted(record), wanted(record)
    await claims.claim(before)
    with order_engine.begin() as connection:
        later = text(
            "UPDATE claims SET expires_at = expires_at + interval '30 days' WHERE idempotency_key = :key"
        )
        connection.execute(later, {"key": record.key})

    assert await claims.claim(after) == Claimed((before.transaction_id,))


async def test_a_claim_that_was_taken_over_cannot_be_moved(decision_log: SqlDecisionLog) -> None:
    """R11: a second attempt begins only for who still has the claim."""
    claims = Claims(decision_log, claim_seconds=0)
    record = a_key("move")
    slow, quick = wanted(record), wanted(record)
    await claims.claim(slow)
    await claims.claim(quick)

    assert not await claims.move(slow, new_transaction_id())
    assert await claims.move(quick, new_transaction_id())
