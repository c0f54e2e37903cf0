"""The batch loop: ask everybody, decide once, and only then tell.

And what happens when the log does not answer.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from two_phase import metrics
from two_phase.coordinator import restore_detector
from two_phase.coordinator.coordinator import Coordinator, Limits, Ticket
from two_phase.coordinator.decision_log import LOG, LoggedDecision, LogStatus
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.verdict import Transaction, Verdict
from two_phase.errors import Unavailable
from two_phase.messages import Ballot, Decision, InDoubt, Outcomes, Round, TransactionId, Vote

PARTICIPANTS = ("payment", "stock", "delivery")
LIMITS = Limits(
    batch=2,
    queue=4,
    unsure=2,
    prepare_seconds=30,
    decision_seconds=30,
    queue_timeout_seconds=30,
    arrival_seconds=30,
)
LINGER_SECONDS = 0.001
#: For those who wait for what never comes.
IMPATIENT = replace(LIMITS, prepare_seconds=0.05, decision_seconds=0.05, arrival_seconds=0.05)


def transaction(number: int, **options: Any) -> Transaction:
    """Return a transaction for all three."""
    payloads = {name: {"number": number} for name in PARTICIPANTS}
    return Transaction(f"00000000-0000-7000-8000-{number:012x}", payloads, **options)


class Participant:
    """Votes yes, refuses, or is silent."""

    def __init__(self, events: list[str], name: str) -> None:
        self.refuses = False
        self.silent = False
        #: Its counter of forced rounds, if it counts.
        self.counter: int | None = None
        self.log_seen = 0
        self.rounds: list[Round] = []
        self._events = events
        self._name = name

    async def send(self, message: Round) -> Ballot:
        """Return a ballot."""
        if message == Round(generation=message.generation):
            return self._greeting()
        self.rounds.append(message)
        if message.prepares and self.counter is not None:
            self.counter += 1
        self._events += [
            f"{self._name} hears of {each}" for each in (*message.commits, *message.aborts)
        ]
        if self.silent:
            await asyncio.Event().wait()
        votes = [self._vote(each.transaction_id) for each in message.prepares]
        acknowledged = [*message.aborts, *message.commits]
        return Ballot(
            counter=self.counter, log_seen=self.log_seen, votes=votes, acknowledged=acknowledged
        )

    def _greeting(self) -> Ballot:
        if self.silent:
            raise Unavailable("silent")
        return Ballot(counter=self.counter, log_seen=self.log_seen)

    def _vote(self, transaction_id: TransactionId) -> Vote:
        reason = "no" if self.refuses else None
        return Vote(transaction_id=transaction_id, prepared=not self.refuses, reason=reason)


class Log:
    """First writer wins, in memory; it can fail, hang, and lose replies."""

    def __init__(self, events: list[str]) -> None:
        self.rows: dict[TransactionId, Decision] = {}
        self.stands = LogStatus(generation=1, log_position=0)
        self.heeded = 0
        self.opened = False
        self.heard: list[dict[str, int]] = []
        self.calls: list[list[TransactionId]] = []
        #: What happens to the next calls: "fails", "loses the reply", "hangs", "hangs and fails".
        self.faults: list[str] = []
        self.released = asyncio.Event()
        self._events = events

    @property
    def log_position(self) -> int:
        """How far the log had come."""
        return self.heeded

    def observe(self, log_seen: int) -> None:
        """Know that somebody has seen the log there."""
        self.heeded = max(self.heeded, log_seen)

    def open(self) -> None:
        """Answer from now on."""
        self.opened = True

    async def status(self) -> LogStatus:
        """Return how far the log has come."""
        return self.stands

    async def note_restored(self, name: str, seen: int = 0) -> None:
        """Remember it."""
        if name != LOG or self.stands.log_position < seen:
            self.stands = replace(self.stands, restored=self.stands.restored | {name})

    async def decide(
        self, verdicts: Sequence[Verdict], generation: int, heard: Mapping[str, int]
    ) -> Mapping[TransactionId, LoggedDecision]:
        """Write what is not written yet."""
        self.heard.append(dict(heard))
        self.calls.append([each.transaction.transaction_id for each in verdicts])
        fault = self.faults.pop(0) if self.faults else ""
        if fault.startswith("hangs"):
            await self.released.wait()
        if fault.endswith("fails"):
            raise ConnectionError(fault)
        if generation != self.stands.generation or self.stands.log_position < self.heeded:
            return {}
        found = {each.transaction.transaction_id for each in verdicts} & self.rows.keys()
        for each in verdicts:
            self.rows.setdefault(each.transaction.transaction_id, each.decision)
        self._events.append("decided")
        if fault == "loses the reply":
            raise ConnectionError(fault)
        ids = [each.transaction.transaction_id for each in verdicts]
        return {each: LoggedDecision(self.rows[each], existed=each in found) for each in ids}

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Cancel what is unknown."""
        self.observe(log_seen)
        for each in transactions:
            self.rows.setdefault(each.transaction_id, Decision.CANCELLED)
        return Outcomes()

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int = 0) -> Outcomes:
        """Nobody asks."""
        raise NotImplementedError(transactions, log_seen)


class Shop:
    """An coordinator with all that it talks to."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.events: list[str] = []
        self.participants = {name: Participant(self.events, name) for name in PARTICIPANTS}
        self.log = Log(self.events)
        participants = [
            RemoteParticipant(name, participant, linger_seconds=LINGER_SECONDS)
            for name, participant in self.participants.items()
        ]
        self.coordinator = Coordinator(participants, self.log, limits)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Coordinator]:
        """Run the coordinator."""
        task = asyncio.create_task(self.coordinator.run())
        while not self.log.opened:
            await asyncio.sleep(0)
        yield self.coordinator
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


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


async def test_who_comes_up_a_moment_later_is_greeted_a_moment_later() -> None:
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
