"""What travels together: when a batch leaves the queue, and what never enters it."""

import asyncio
from dataclasses import replace

import pytest

from two_phase import metrics
from two_phase.coordinator.ticket import Ticket
from two_phase.errors import Unavailable
from two_phase.messages import Decision
from unit.fake_coordination import IMPATIENT, LIMITS, LINGER_SECONDS, Shop, transaction


async def test_what_arrives_together_is_decided_together() -> None:
    """Group commit: one round per participant and one insert for a whole batch, up to its limit."""
    shop = Shop()
    tickets: list[Ticket] = []
    async with shop.running() as coordinator:
        tickets = [coordinator.submit(transaction(number)) for number in range(1, 4)]
        await asyncio.gather(*(ticket.outcome for ticket in tickets))

    assert [len(each) for each in shop.log.calls] == [2, 1]


async def test_of_a_crowd_half_travels_at_once() -> None:
    """More orders for each round where there are many, and still somebody to go while these are answered."""
    shop = Shop(replace(LIMITS, queue=100))
    async with shop.running() as coordinator:
        tickets = [coordinator.submit(transaction(number)) for number in range(12)]
        await asyncio.gather(*(ticket.outcome for ticket in tickets))

    assert [len(each) for each in shop.log.calls] == [6, 3, 2, 1]


async def test_the_gauge_of_the_queue_shows_it_at_its_fullest() -> None:
    """R13: an operator is warned by it before customers are sent away."""
    shop = Shop()
    async with shop.running() as coordinator:
        for number in range(4):
            coordinator.submit(transaction(number))
        while len(coordinator._queue) == 4:
            await asyncio.sleep(0)

        assert metrics.QUEUE._value.get() == 4
        while coordinator._queue:
            await asyncio.sleep(0)

        assert metrics.QUEUE._value.get() == 0


async def test_too_much_is_refused_at_once() -> None:
    """R13: past a limit the client hears it immediately."""
    shop = Shop()
    with pytest.raises(Unavailable, match="starting"):
        shop.coordinator.submit(transaction(1))
    async with shop.running() as coordinator:
        for number in range(4):
            coordinator.submit(transaction(number))
        with pytest.raises(Unavailable, match="too many"):
            coordinator.submit(transaction(5))


async def test_an_order_that_waited_too_long_is_not_begun() -> None:
    """R13: nobody asks the participants for an order that no client waits for."""
    shop = Shop(replace(LIMITS, queue_timeout_seconds=-1.0))
    async with shop.running() as coordinator:
        with pytest.raises(Unavailable, match="too long"):
            await coordinator.submit(transaction(1)).outcome

    assert all(not participant.rounds for participant in shop.participants.values())


async def test_who_gives_up_in_the_queue_is_never_asked_for() -> None:
    """A customer who was sent away from the queue costs nothing."""
    shop = Shop()
    async with shop.running() as coordinator:
        ticket = coordinator.submit(transaction(1))
        assert ticket.give_up()
        await coordinator.submit(transaction(2)).outcome

    assert [each.transaction_id for each in shop.participants["payment"].rounds[0].prepares] == [
        transaction(2).transaction_id
    ]


async def test_a_batch_waits_for_what_is_expected_and_for_who_is_at_the_door() -> None:
    """Group commit: orders that come together travel together, also where the key of one must be claimed first."""
    shop = Shop()
    claimed = asyncio.Event()

    async def with_a_key() -> None:
        with coordinator.arriving():
            await claimed.wait()
        await coordinator.submit(transaction(1)).outcome

    async with shop.running() as coordinator:
        slower = asyncio.create_task(with_a_key())
        await asyncio.sleep(0)
        faster = coordinator.submit(transaction(2))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not shop.participants["payment"].rounds
        claimed.set()
        await asyncio.gather(slower, faster.outcome)

    assert len(shop.log.calls) == 1


async def test_a_batch_waits_for_what_is_expected_while_it_gathers() -> None:
    """Customers that were answered together come again together, and with them the keys that must be claimed first."""
    shop = Shop()
    async with shop.running() as coordinator:
        faster = coordinator.submit(transaction(1))
        await asyncio.sleep(0)
        with coordinator.arriving():
            for _ in range(100):
                await asyncio.sleep(0)
            assert not shop.participants["payment"].rounds
        slower = coordinator.submit(transaction(2))
        await asyncio.gather(faster.outcome, slower.outcome)

    assert len(shop.log.calls) == 1


async def test_a_batch_does_not_wait_for_what_is_announced_while_it_waits() -> None:
    """Where every order has a key, one is always being claimed.

    Each would wait for those behind it.
    """
    shop = Shop()
    claimed = asyncio.Event()

    async def with_a_key() -> None:
        with coordinator.arriving():
            await claimed.wait()

    async with shop.running() as coordinator:
        first = coordinator.submit(transaction(1))
        with coordinator.arriving():
            for _ in range(100):
                await asyncio.sleep(0)
            later = asyncio.create_task(with_a_key())
            await asyncio.sleep(0)
        settled = await asyncio.wait_for(first.outcome, LIMITS.arrival_seconds / 10)
        claimed.set()
        await later

    assert settled.decision is Decision.CONFIRMED


async def test_a_full_batch_waits_for_nothing() -> None:
    """Whoever is expected has the next one for company."""
    shop = Shop(replace(LIMITS, batch=1))
    async with shop.running() as coordinator:
        with coordinator.arriving():
            settled = await asyncio.wait_for(
                coordinator.submit(transaction(1)).outcome, LIMITS.arrival_seconds / 2
            )

    assert settled.decision is Decision.CONFIRMED


async def test_decisions_wait_for_the_round_of_a_batch_that_gathers() -> None:
    """A round of their own would cost every participant as much as the one that is about to leave."""
    shop = Shop()
    async with shop.running() as coordinator:
        await coordinator.submit(transaction(1)).outcome
        with coordinator.arriving():
            ticket = coordinator.submit(transaction(2))
            await asyncio.sleep(20 * LINGER_SECONDS)
        await ticket.outcome
        await coordinator.drain()

    assert [len(each.prepares) for each in shop.participants["payment"].rounds if each.commits] == [
        1,
        0,
    ]


async def test_what_is_expected_for_too_long_is_not_waited_for() -> None:
    """A claim that hangs must not hold up the orders without a key."""
    shop = Shop(IMPATIENT)
    async with shop.running() as coordinator:
        with coordinator.arriving():
            settled = await coordinator.submit(transaction(1)).outcome

    assert settled.decision is Decision.CONFIRMED
