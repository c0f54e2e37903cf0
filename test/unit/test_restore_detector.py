"""What a restored log or participant does to a coordinator: it decides nothing until a reconciliation."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from two_phase.coordinator import restore_detector
from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.decision_log import LOG
from two_phase.errors import Unavailable
from two_phase.messages import Decision
from unit.fake_coordination import LIMITS, Shop, transaction


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the coordinator look more often whether somebody was restored."""
    monkeypatch.setattr(restore_detector, "LOOK_SECONDS", 0.01)


async def _until_welcome(coordinator: Coordinator) -> None:
    """Wait until orders are taken."""
    async with asyncio.timeout(5):
        while True:
            with suppress(Unavailable):
                return coordinator.check_capacity()
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("_often")
async def test_a_restored_participant_gets_no_orders_until_it_is_reconciled() -> None:
    """R12: its votes are no answer, nobody is asked to prepare any more, and all replicas learn of it by the log."""
    shop = Shop()
    payment, stock = shop.participants["payment"], shop.participants["stock"]
    payment.counter = 10
    async with shop.running() as coordinator:
        assert (await coordinator.submit(transaction(1)).outcome).decision is Decision.CONFIRMED
        payment.counter = 9
        settled = await coordinator.submit(transaction(2)).outcome
        with pytest.raises(Unavailable, match="payment was restored from an older backup"):
            coordinator.submit(transaction(3))
        await coordinator.drain()
        while not shop.log.stands.restored:
            await asyncio.sleep(0.001)
        payment.counter = 100
        shop.log.stands = replace(shop.log.stands, restored=frozenset())
        await _until_welcome(coordinator)
        assert (await coordinator.submit(transaction(4)).outcome).decision is Decision.CONFIRMED

    assert (settled.decision, settled.verdict.silent) == (Decision.CANCELLED, ["payment"])
    assert stock.rounds[-2].aborts == [transaction(2).transaction_id]
    assert shop.log.heard[0] == {"payment": 11}


@pytest.mark.usefixtures("_often")
async def test_what_another_replica_has_heard_is_believed() -> None:
    """R12: a replica that was idle finds a restored participant by what the log has kept."""
    shop = Shop()
    shop.participants["stock"].counter = 10
    shop.log.stands = replace(shop.log.stands, round_counts={"stock": 12})
    async with shop.running() as coordinator:
        with pytest.raises(Unavailable, match="stock was restored"):
            coordinator.submit(transaction(1))


@pytest.mark.usefixtures("_often")
async def test_a_log_that_somebody_has_seen_further_decides_nothing_until_it_is_reconciled() -> (
    None
):
    """R12: new orders are refused at once, instead of leaving more branches in doubt."""
    shop = Shop()
    shop.participants["delivery"].counter = 3
    async with shop.running() as coordinator:
        shop.participants["delivery"].log_seen = 8
        with pytest.raises(Unavailable, match="restored"):
            await coordinator.submit(transaction(1)).outcome
        with pytest.raises(Unavailable, match="the decision log was restored"):
            coordinator.submit(transaction(2))
        async with asyncio.timeout(10):
            while LOG not in shop.log.stands.restored:
                await asyncio.sleep(0.01)
        # Others who have seen less of it may have written meanwhile: that mends nothing.
        shop.log.stands = replace(shop.log.stands, log_position=9)
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable, match="the decision log was restored"):
            coordinator.submit(transaction(2))
        shop.log.stands = replace(
            shop.log.stands, generation=2, log_position=10, restored=frozenset()
        )
        await _until_welcome(coordinator)
        assert (await coordinator.submit(transaction(3)).outcome).decision is Decision.CONFIRMED

    assert shop.log.rows == {transaction(3).transaction_id: Decision.CONFIRMED}
    assert shop.participants["payment"].rounds[-1].generation == 2


@pytest.mark.usefixtures("_often")
async def test_who_was_not_heard_since_the_start_may_have_seen_more() -> None:
    """R12: a replica that starts asks everybody how far the log was, and is patient with a silent one for a while only."""
    shop = Shop(replace(LIMITS, startup_grace_seconds=0.2))
    shop.participants["stock"].silent = True
    async with shop.running() as coordinator:
        with pytest.raises(Unavailable, match="no answer from stock"):
            coordinator.check_capacity()
        assert shop.log.opened
        shop.participants["stock"].silent = False
        await _until_welcome(coordinator)


async def test_a_participant_that_comes_up_later_is_connected_later() -> None:
    """A shop that starts as a whole takes orders when it says that it is ready, and not a second after."""
    shop = Shop()
    shop.participants["delivery"].silent = True
    task = asyncio.create_task(shop.coordinator.run())
    await asyncio.sleep(0.02)
    assert not shop.coordinator.is_open()
    shop.participants["delivery"].silent = False
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        while not shop.coordinator.is_open():
            await asyncio.sleep(0.001)
    waited_seconds = asyncio.get_running_loop().time() - began
    shop.coordinator.check_capacity()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert waited_seconds < restore_detector.LOOK_SECONDS / 2
