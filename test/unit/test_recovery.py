"""Recovery: it asks about what is in doubt for too long, applies what it hears, and never guesses."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from simulation.disk import Disk
from simulation.escrow import TRADES
from simulation.fate import ChosenFate
from simulation.store import MemoryBranchStore
from two_phase.errors import Unavailable
from two_phase.messages import InDoubt, Outcomes, Prepare, Round, State, TransactionId
from two_phase.participant import recovery as recovery_module
from two_phase.participant.participant import Participant
from two_phase.participant.recovery import Recovery


def identity(number: int) -> TransactionId:
    """Return an id."""
    return f"00000000-0000-7000-8000-{number:012x}"


class Coordinator:
    """Answers by a list of decisions; what is not on it stays undecided."""

    def __init__(self) -> None:
        self.confirmed: set[TransactionId] = set()
        self.cancelled: set[TransactionId] = set()
        self.away = False
        self.log_seen = 0
        self.asked: list[tuple[str, list[TransactionId]]] = []

    async def outcomes(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions."""
        self.log_seen = log_seen
        return self._answer("outcomes", transactions)

    async def peek(self, transactions: Sequence[InDoubt], log_seen: int) -> Outcomes:
        """Return the decisions."""
        self.log_seen = log_seen
        return self._answer("peek", transactions)

    def _answer(self, verb: str, transactions: Sequence[InDoubt]) -> Outcomes:
        if self.away:
            raise Unavailable("away")
        self.asked.append((verb, [each.transaction_id for each in transactions]))
        # More than was asked for: nobody may act on it.
        return Outcomes(confirmed=sorted(self.confirmed), cancelled=sorted(self.cancelled))


class Place:
    """A participant with prepared branches, its recovery, and a clock."""

    def __init__(self, branches: int) -> None:
        self.now = 100.0
        self.disk = Disk("payment", ("branches", "counters", "accounts"))
        self.disk.tables["accounts"][1] = 1000
        #: What happens to a local transaction, by its number; the first one prepares.
        self.faults: dict[int, str] = {}
        store = MemoryBranchStore(
            self.disk, ChosenFate(self.faults), lambda: self.now, lambda: None
        )
        self.participant: Participant[Any, Any] = Participant(store, *TRADES["payment"])
        self.coordinator = Coordinator()
        self.recovery = Recovery(
            self.participant, self.coordinator, self._run, interval_seconds=0.001
        )
        self.prepare(range(branches))

    async def _run(self, work: Callable[[], Any]) -> Any:
        return work()

    def prepare(self, numbers: Sequence[int]) -> None:
        """Prepare branches now."""
        payload = {"user_id": 1, "amount": 1}
        prepares = [
            Prepare(transaction_id=identity(number + 1), payload=payload) for number in numbers
        ]
        self.participant.round(Round(generation=3, prepares=prepares))

    def states(self) -> list[State]:
        """Return the states of all branches, in their order."""
        return [row.branch.state for _, row in sorted(self.disk.tables["branches"].items())]


async def test_only_what_is_in_doubt_for_too_long_is_asked_about() -> None:
    """R2: a transaction under way is not disturbed."""
    place = Place(1)
    place.now += 6
    place.prepare([1])
    place.coordinator.cancelled = {identity(1), identity(2)}

    assert await place.recovery.once() == 1
    assert place.coordinator.asked == [("outcomes", [identity(1)])]
    assert place.states() == [State.ABORTED, State.PREPARED]


async def test_what_is_heard_is_applied_and_what_is_not_stays_in_doubt() -> None:
    """R2: ask, never guess."""
    place = Place(3)
    place.now += 6
    place.coordinator.confirmed, place.coordinator.cancelled = {identity(1)}, {identity(3)}

    assert await place.recovery.once() == 2
    assert place.states() == [State.COMMITTED, State.PREPARED, State.ABORTED]
    assert place.disk.tables["accounts"] == {1: 998}


async def test_nothing_in_doubt_is_no_question() -> None:
    """An idle participant leaves the coordinator alone."""
    place = Place(1)

    assert await place.recovery.once() == 0
    assert place.coordinator.asked == []


async def test_an_answer_without_a_decision_changes_nothing() -> None:
    """Undecided is an answer too."""
    place = Place(1)
    place.now += 6

    assert await place.recovery.once() == 0
    assert place.states() == [State.PREPARED]


async def test_many_are_asked_about_in_parts_past_what_has_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R13 and L4: questions have a limit, and the undecided oldest ones do not hide the others."""
    monkeypatch.setattr(recovery_module, "QUESTION_MAX", 2)
    place = Place(5)
    place.now += 6
    place.coordinator.cancelled = {identity(number) for number in (3, 4, 5)}

    assert await place.recovery.once() == 3
    assert [len(asked) for _, asked in place.coordinator.asked] == [2, 2, 1]
    assert place.states() == [State.PREPARED, State.PREPARED, *[State.ABORTED] * 3]


async def test_a_recovery_pass_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: what is left waits for the next recovery pass."""
    monkeypatch.setattr(recovery_module, "QUESTION_MAX", 1)
    monkeypatch.setattr(recovery_module, "QUESTIONS_PER_PASS", 2)
    place = Place(3)
    place.now += 6
    place.coordinator.cancelled = {identity(number) for number in (1, 2, 3)}

    assert [
        await place.recovery.once(),
        await place.recovery.once(),
        await place.recovery.once(),
    ] == [2, 1, 0]


async def test_the_last_full_question_is_followed_by_an_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as fit exactly are all resolved in one recovery."""
    monkeypatch.setattr(recovery_module, "QUESTION_MAX", 2)
    place = Place(2)
    place.now += 6
    place.coordinator.confirmed = {identity(1), identity(2)}

    assert await place.recovery.once() == 2
    assert len(place.coordinator.asked) == 1


async def test_a_coordinator_that_is_away_is_asked_again() -> None:
    """L4: the branch is resolved once the coordinator can be reached, and until then it stays."""
    place = Place(1)
    place.now += 6
    place.coordinator.cancelled = {identity(1)}
    place.coordinator.away = True
    with pytest.raises(Unavailable):
        await place.recovery.once()
    running = asyncio.create_task(place.recovery.run())
    await asyncio.sleep(0.02)
    assert place.states() == [State.PREPARED]

    place.coordinator.away = False
    async with asyncio.timeout(5):
        while place.states() == [State.PREPARED]:
            await asyncio.sleep(0.001)

    assert place.states() == [State.ABORTED]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_read_peeks_and_applies_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """R10: a read shows what was told, in parts where there is much, and decides nothing."""
    monkeypatch.setattr(recovery_module, "QUESTION_MAX", 2)
    place = Place(3)
    place.coordinator.confirmed = {identity(2)}

    question = [InDoubt(transaction_id=identity(number), generation=3) for number in (1, 2, 3)]

    assert not await place.recovery.peek([question[0]])
    assert await place.recovery.peek(question)
    assert [verb for verb, _ in place.coordinator.asked] == ["peek"] * 3
    assert place.states() == [State.PREPARED, State.COMMITTED, State.PREPARED]


async def test_a_read_that_cannot_ask_has_no_answer() -> None:
    """R10: 503, rather than something that may be untrue."""
    place = Place(1)
    place.coordinator.away = True

    with pytest.raises(Unavailable):
        await place.recovery.peek([InDoubt(transaction_id=identity(1), generation=3)])


async def test_a_read_that_cannot_apply_what_was_told_has_no_answer() -> None:
    """R10: who was told that his order is confirmed is never shown it as undecided, even if the database refuses it now."""
    place = Place(1)
    place.coordinator.confirmed = {identity(1)}
    place.faults.update({1: "poison", 2: "poison"})

    with pytest.raises(Unavailable):
        await place.recovery.peek([InDoubt(transaction_id=identity(1), generation=3)])


@pytest.mark.parametrize("verb", ["outcomes", "peek"])
async def test_a_question_says_how_far_the_log_was_seen(verb: str) -> None:
    """R12: a log that was restored must not decide, nor tell, what it has forgotten."""
    place = Place(1)
    place.participant.round(Round(generation=3, log_counter=17, aborts=[identity(9)]))
    place.now += 6

    await (
        place.recovery.once()
        if verb == "outcomes"
        else place.recovery.peek(place.participant.store.in_doubt(5, 1))
    )

    assert place.coordinator.asked[0][0] == verb
    assert place.coordinator.log_seen == 17
