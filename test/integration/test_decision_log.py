"""The decision log and the claims on keys, on real PostgreSQL.

Who wins, who obeys, and who is not kept waiting.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from order_service.models import LOG as STATEMENTS
from order_service.order import OrderRecord, row_of
from two_phase.coordinator.decision_log import LOG, LoggedDecision
from two_phase.coordinator.idempotency import Answered, Busy, Claimed, Claims, KeyRequest, Reused
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.verdict import Transaction, Verdict, judge
from two_phase.errors import Unavailable
from two_phase.messages import Decision, InDoubt, TransactionId, Vote, new_transaction_id

PARTICIPANTS = ("payment", "stock", "delivery")
RECORD = OrderRecord(1, 1, ({"product_id": 1, "quantity": 2, "price": 10},), may_be_repeated=False)


@pytest.fixture
def decision_log(log_engine: Engine) -> Iterator[SqlDecisionLog]:
    """Return a log as one replica has it."""
    with ThreadPoolExecutor(4) as executor:
        yield SqlDecisionLog(log_engine, executor, STATEMENTS, row_of)


def verdict(
    *, refused: str | None = None, record: OrderRecord = RECORD, transaction_id: str | None = None
) -> Verdict:
    """Return a verdict on a new transaction.

    Confirmed, or cancelled because payment gave the reason ``refused``.
    """
    transaction = Transaction(
        transaction_id or new_transaction_id(), {name: {} for name in PARTICIPANTS}, (), record
    )
    votes = {
        name: Vote(transaction_id=transaction.transaction_id, prepared=True)
        for name in PARTICIPANTS
    }
    if refused:
        votes["payment"] = votes["payment"].model_copy(
            update={"prepared": False, "reason": refused, "detail": "no"}
        )
    return judge(transaction, votes)


def in_doubt(*ids: TransactionId, generation: int = 1) -> list[InDoubt]:
    """Return the question about ``ids``."""
    return [InDoubt(transaction_id=each, generation=generation) for each in ids]


def a_key(name: str) -> OrderRecord:
    """Return a record with an idempotency key."""
    return replace(RECORD, key=f"{name}-{new_transaction_id()}", digest="d")


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


async def test_two_transactions_with_one_key_have_one_winner(decision_log: SqlDecisionLog) -> None:
    """R1: who loses the key writes `cancelled` for its own id."""
    record = a_key("two")
    first, second = verdict(record=record), verdict(record=record)

    won = await decision_log.decide([first], 1, {})
    lost = await decision_log.decide([second], 1, {})

    assert list(won.values()) == [LoggedDecision(Decision.CONFIRMED)]
    assert list(lost.values()) == [LoggedDecision(Decision.CANCELLED, existed=True)]
    assert (await decision_log.peek(in_doubt(second.transaction.transaction_id))).cancelled


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


async def test_forced_writes_are_counted_and_the_highest_counters_heard_are_kept(
    decision_log: SqlDecisionLog,
) -> None:
    """R12: the counter of a log is exact, and says nothing of what a crash may take back."""
    before = await decision_log.status()

    await decision_log.decide([verdict(), verdict()], before.generation, {"bakery": 7, "cellar": 3})
    await decision_log.decide(
        [verdict(refused="insufficient_funds")], before.generation, {"bakery": 9}
    )
    await decision_log.decide([verdict()], before.generation, {"bakery": 5, "cellar": 4})
    await decision_log.outcomes(in_doubt(new_transaction_id()))
    await decision_log.peek(in_doubt(new_transaction_id()))
    after = await decision_log.status()

    assert after.log_position == before.log_position + 3
    assert decision_log.log_position == after.log_position
    assert {name: after.round_counts[name] for name in ("bakery", "cellar")} == {
        "bakery": 7,
        "cellar": 4,
    }


async def test_a_log_that_was_seen_further_writes_nothing(log_engine: Engine) -> None:
    """R12: a restored log neither decides nor cancels what it has forgotten, and a read is not told that it is undecided."""
    with ThreadPoolExecutor(1) as executor:
        restored = SqlDecisionLog(log_engine, executor, STATEMENTS, row_of)
        known = verdict()
        await restored.decide([known], 1, {})
        status = await restored.status()

        forgotten, with_key = verdict(), verdict(record=a_key("restored"))
        question = in_doubt(known.transaction.transaction_id, forgotten.transaction.transaction_id)
        asked = await restored.outcomes(question, status.log_position + 1)
        decided = await restored.decide([known, forgotten, with_key], 1, {})
        with pytest.raises(Unavailable, match="restored"):
            await restored.peek(question)

        assert (asked.confirmed, asked.cancelled) == ([known.transaction.transaction_id], [])
        assert decided == {
            known.transaction.transaction_id: LoggedDecision(Decision.CONFIRMED, existed=True)
        }
        assert await restored.status() == status


async def test_a_log_that_has_fallen_back_writes_nothing_however_far_it_comes(
    decision_log: SqlDecisionLog, order_engine: Engine
) -> None:
    """R12: others, who have seen less of it, may have written meanwhile.

    What it has forgotten it still does not know.
    """
    written = (await decision_log.status()).log_position
    await decision_log.note_restored(LOG, written)
    before = await decision_log.status()
    await decision_log.note_restored(LOG, written + 1)
    try:
        forgotten = verdict()
        question = in_doubt(forgotten.transaction.transaction_id)
        with pytest.raises(Unavailable, match="restored"):
            await decision_log.peek(question)

        assert await decision_log.decide([forgotten], 1, {}) == {}
        assert (await decision_log.outcomes(question)).cancelled == []
        assert LOG not in before.restored
        noted = await decision_log.status()
        assert (noted.restored, noted.round_counts[LOG], noted.log_position) == (
            {LOG},
            written + 1,
            written,
        )
    finally:
        with order_engine.begin() as connection:
            connection.execute(text("DELETE FROM restored_participants"))
            connection.execute(text("UPDATE log_counters SET heard = heard - 'log'"))


async def test_a_log_that_is_not_open_yet_tells_what_it_knows_and_decides_nothing(
    log_engine: Engine,
) -> None:
    """R12: until the participants were heard, somebody may have seen more than this log remembers."""
    with ThreadPoolExecutor(1) as executor:
        starting = SqlDecisionLog(log_engine, executor, STATEMENTS, row_of, opened=False)
        known, unknown = verdict(), new_transaction_id()
        await starting.decide([known], 1, {})
        question = in_doubt(known.transaction.transaction_id, unknown)

        before = await starting.outcomes(question)
        starting.open()
        after = await starting.outcomes(question)

    assert (before.confirmed, before.cancelled) == ([known.transaction.transaction_id], [])
    assert (after.confirmed, after.cancelled) == ([known.transaction.transaction_id], [unknown])


async def test_that_a_participant_was_restored_is_known_to_all_replicas(
    decision_log: SqlDecisionLog, order_engine: Engine
) -> None:
    """R12: whichever replica notices it, all stop asking for its votes."""
    try:
        await decision_log.note_restored("stock")
        await decision_log.note_restored("stock")

        assert (await decision_log.status()).restored == {"stock"}
    finally:
        with order_engine.begin() as connection:
            connection.execute(text("DELETE FROM restored_participants"))
