"""A log on real PostgreSQL that counts, was restored, or is not open yet."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from integration.decided import a_key, in_doubt, verdict
from order_service.models import LOG as STATEMENTS
from order_service.order import row_of
from two_phase.coordinator.decision_log import LOG, LoggedDecision
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.errors import Unavailable
from two_phase.messages import Decision, new_transaction_id


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
