"""The batch loop: ask everybody, decide once, and only then tell.

And what happens when the log does not answer.
"""

import asyncio
from dataclasses import replace

import pytest

from two_phase.coordinator.verdict import Transaction
from two_phase.errors import Unavailable
from two_phase.messages import Decision, InDoubt
from unit.fake_coordination import IMPATIENT, LIMITS, PARTICIPANTS, Shop, transaction


async def test_all_votes_in_the_decision_is_written_and_then_everybody_hears_of_it() -> None:
    """Write first, speak second: no participant hears of a decision that is not in the log."""
    shop = Shop()
    async with shop.running() as coordinator:
        ticket = coordinator.submit(transaction(1, instead_of=(transaction(9).transaction_id,)))
        settled = await ticket.outcome
        await coordinator.drain()

    assert (settled.decision, settled.existed) == (Decision.CONFIRMED, False)
    assert shop.events == [
        "decided",
        *(f"{name} hears of {transaction(1).transaction_id}" for name in PARTICIPANTS),
    ]
    for participant in shop.participants.values():
        prepare = participant.rounds[0].prepares[0]
        assert (prepare.payload, prepare.instead_of) == (
            {"number": 1},
            [transaction(9).transaction_id],
        )
        assert participant.rounds[1].commits == [transaction(1).transaction_id]


async def test_a_refusal_cancels_and_every_participant_hears_of_it() -> None:
    """R7: a cancellation goes to everybody, whatever he voted."""
    shop = Shop()
    shop.participants["stock"].refuses = True
    async with shop.running() as coordinator:
        settled = await coordinator.submit(transaction(1)).outcome
        await coordinator.drain()

    assert settled.decision is Decision.CANCELLED
    assert list(settled.verdict.refusals) == ["stock"]
    for participant in shop.participants.values():
        assert participant.rounds[1].aborts == [transaction(1).transaction_id]


async def test_silence_is_a_no_and_the_silent_one_hears_of_it_above_all() -> None:
    """R7: past the deadline the order is cancelled, and the others are not kept waiting."""
    shop = Shop(IMPATIENT)
    async with shop.running() as coordinator:
        shop.participants["delivery"].silent = True
        settled = await coordinator.submit(transaction(1)).outcome
        shop.participants["delivery"].silent = False
        await coordinator.drain()

    assert settled.decision is Decision.CANCELLED
    assert settled.verdict.silent == ["delivery"]
    assert shop.participants["delivery"].rounds[-1].aborts == [transaction(1).transaction_id]


async def test_who_gives_up_before_the_decision_can_only_be_cancelled() -> None:
    """A 503 before a ``confirmed`` insert was sent is a promise, though all votes were yes."""
    shop = Shop()
    async with shop.running() as coordinator:
        ticket = coordinator.submit(transaction(1))
        while not shop.participants["payment"].rounds:
            await asyncio.sleep(0)
        given_up = ticket.give_up()
        settled = await ticket.outcome

    assert given_up
    assert settled.decision is Decision.CANCELLED


async def test_who_gives_up_after_the_insert_has_left_learns_that_only_the_log_knows() -> None:
    """R3: from then on nobody may say that the order is cancelled."""
    shop = Shop()
    shop.log.faults = ["hangs"]
    async with shop.running() as coordinator:
        ticket = coordinator.submit(transaction(1))
        while not shop.log.calls:
            await asyncio.sleep(0)
        assert not ticket.give_up()
        shop.log.released.set()

        assert (await ticket.outcome).decision is Decision.CONFIRMED


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (["fails"], False),
        (["fails", "fails", "fails"], False),
        (["loses the reply"], True),
        (["hangs"], False),
        (["hangs and fails", "fails"], False),
    ],
)
async def test_an_insert_without_an_answer_is_repeated_until_the_log_tells(
    faults: list[str], *, found: bool
) -> None:
    """R3: a lost reply means unknown, and nobody is told anything before the log has told it."""
    shop = Shop(IMPATIENT)
    shop.log.faults = list(faults)
    async with shop.running() as coordinator:
        ticket = coordinator.submit(transaction(1))
        await asyncio.sleep(0.01)
        assert not ticket.outcome.done()
        settled = await ticket.outcome
        shop.log.released.set()
        await coordinator.drain()

    assert (settled.decision, settled.existed) == (Decision.CONFIRMED, found)
    assert set(shop.log.calls[0]) == {transaction(1).transaction_id}
    assert shop.events[0] == "decided"


async def test_no_more_than_two_inserts_of_a_batch_wait_for_the_log() -> None:
    """R13: a log that hangs is not asked without end, and new work is refused when too much is unsure."""
    shop = Shop(IMPATIENT)
    shop.log.faults = ["hangs"] * 4
    async with shop.running() as coordinator:
        tickets = [coordinator.submit(transaction(1)), coordinator.submit(transaction(2))]
        await asyncio.sleep(0.5)
        with pytest.raises(Unavailable, match="too many"):
            coordinator.check_capacity()
        assert len(shop.log.calls) == 2
        shop.log.faults = []
        shop.log.released.set()

        assert [(await each.outcome).decision for each in tickets] == [Decision.CONFIRMED] * 2
        coordinator.check_capacity()


async def test_a_failure_that_comes_after_the_answer_disturbs_nobody() -> None:
    """The first insert may still fail on its broken connection when the second one has told the truth."""
    shop = Shop(IMPATIENT)
    shop.log.faults = ["hangs and fails"]
    async with shop.running() as coordinator:
        settled = await coordinator.submit(transaction(1)).outcome
        shop.log.released.set()
        await coordinator.drain()
        await asyncio.sleep(0)

    assert settled.decision is Decision.CONFIRMED


async def test_the_row_found_is_obeyed() -> None:
    """R1: a coordinator that was paused cannot overrule what was decided meanwhile."""
    shop = Shop()
    late = transaction(1)
    await shop.log.outcomes([InDoubt(transaction_id=late.transaction_id, generation=1)])
    async with shop.running() as coordinator:
        settled = await coordinator.submit(late).outcome
        await coordinator.drain()

    assert (settled.decision, settled.existed) == (Decision.CANCELLED, True)
    assert settled.verdict.decision is Decision.CONFIRMED
    assert shop.participants["payment"].rounds[-1].aborts == [late.transaction_id]


async def test_a_log_of_another_generation_decides_nothing() -> None:
    """R12: after a restore nobody is told anything about orders of before, and the participants keep their branches."""
    shop = Shop()
    async with shop.running() as coordinator:
        shop.log.stands = replace(shop.log.stands, generation=2)
        with pytest.raises(Unavailable, match="restored"):
            await coordinator.submit(transaction(1)).outcome
        await coordinator.drain()

    assert all(len(participant.rounds) == 1 for participant in shop.participants.values())


async def test_who_has_gone_away_is_not_told() -> None:
    """A caller that was cancelled leaves its order to be decided all the same."""
    shop = Shop()
    shop.log.faults = ["hangs"]
    async with shop.running() as coordinator:
        decided, waited_too_long = (
            coordinator.submit(transaction(1)),
            coordinator.submit(transaction(2)),
        )
        while not shop.log.calls:
            await asyncio.sleep(0)
        decided.outcome.cancel()
        shop.log.released.set()
        assert (await waited_too_long.outcome).decision is Decision.CONFIRMED
        await coordinator.drain()

    assert shop.log.rows[transaction(1).transaction_id] is Decision.CONFIRMED


async def test_who_has_gone_away_from_the_queue_is_not_told_either() -> None:
    """A caller that was cancelled in the queue is past its patience and hears nothing more."""
    shop = Shop(replace(LIMITS, queue_timeout_seconds=-1.0))
    async with shop.running() as coordinator:
        ticket = coordinator.submit(transaction(1))
        ticket.outcome.cancel()
        await asyncio.sleep(0.01)

    assert ticket.outcome.cancelled()


async def test_a_transaction_for_others_is_a_bug() -> None:
    """L1 counts the votes of exactly those who are asked."""
    shop = Shop()
    async with shop.running() as coordinator:
        with pytest.raises(AssertionError):
            coordinator.submit(Transaction(transaction(1).transaction_id, {"payment": {}}))
