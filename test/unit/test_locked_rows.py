"""A row that another session has locked holds up what touches it, and nothing else (R8)."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.errors import Unavailable
from two_phase.messages import Ballot, Decision, LogPosition, Round, State, TransactionId
from two_phase.participant.branches import Locked
from two_phase.participant.isolation import LOCKED_MAX
from unit.remote import Participant as Told
from unit.small_participant import Place, identity, prepare, votes


class Waiting(Place):
    """A place in which some transactions touch a locked row; it counts how often one was met."""

    def __init__(self) -> None:
        super().__init__()
        self.locked: set[TransactionId] = set()
        self.met = 0
        self.participant._take = self._take_unlocked
        self.participant._give_back = self._give_back_unlocked

    def _meet(self, asked: Sequence[tuple[TransactionId, Any]]) -> None:
        if self.locked.intersection(each for each, _ in asked):
            self.met += 1
            raise Locked("canceling statement due to lock timeout")

    def _take_unlocked(self, connection: Any, asked: Any) -> Any:
        self._meet(asked)
        return self._take(connection, asked)

    def _give_back_unlocked(self, connection: Any, taken: Any) -> None:
        self._meet(taken)
        self._give_back(connection, taken)


@pytest.fixture
def waiting() -> Waiting:
    """Return a participant."""
    return Waiting()


def test_only_what_touches_the_locked_row_gets_no_answer(waiting: Waiting) -> None:
    """Its neighbours are taken and voted on.

    It leaves nothing behind, and is answered as ever when the row is free.
    """
    waiting.disk.tables["stock"]["units"] = 200
    waiting.locked = {identity(77)}

    ballot = waiting.say(prepares=[prepare(number) for number in range(128)])

    assert votes(ballot) == {identity(number): True for number in range(128) if number != 77}
    assert identity(77) not in waiting.states()
    assert waiting.met <= 8
    waiting.locked = set()
    assert votes(waiting.say(prepares=[prepare(77), prepare(76)])) == {
        identity(77): True,
        identity(76): True,
    }
    assert waiting.units == 200 - 128


def test_decisions_go_past_a_locked_row(waiting: Waiting) -> None:
    """An abort that would give back to it is not acknowledged, and so comes again.

    All others are.
    """
    waiting.say(prepares=[prepare(number) for number in (1, 2, 3)])
    waiting.locked = {identity(2)}

    ballot = waiting.say(
        aborts=[identity(1), identity(2)], commits=[identity(3)], prepares=[prepare(4)]
    )

    assert set(ballot.acknowledged) == {identity(1), identity(3)}
    assert votes(ballot) == {identity(4): True}
    assert waiting.states()[identity(2)] is State.PREPARED


def test_a_prepare_waits_with_the_attempt_that_it_replaces(waiting: Waiting) -> None:
    """What it is instead of must be given back first, or both would be held."""
    waiting.say(prepares=[prepare(1)])
    waiting.locked = {identity(1)}

    ballot = waiting.say(prepares=[prepare(2, 1, 1), prepare(3)])

    assert votes(ballot) == {identity(3): True}
    assert waiting.states() == {identity(1): State.PREPARED, identity(3): State.PREPARED}


def test_a_table_that_is_locked_costs_so_many_waits_and_no_more(waiting: Waiting) -> None:
    """Where everything is locked, nothing is answered, and soon."""
    waiting.locked = {identity(number) for number in range(128)}

    ballot = waiting.say(prepares=[prepare(number) for number in range(128)])

    assert ballot == Ballot()
    assert waiting.met <= LOCKED_MAX + 1


def test_poison_beside_a_locked_row_is_refused_alone(waiting: Waiting) -> None:
    """Two things may be wrong with one round."""
    waiting.locked = {identity(1)}
    waiting.poison = {identity(2)}

    ballot = waiting.say(prepares=[prepare(number) for number in (1, 2, 3, 4)])

    assert votes(ballot) == {identity(2): False, identity(3): True, identity(4): True}


def test_a_round_taken_apart_still_tells_a_participant_that_has_fallen_back(
    waiting: Waiting,
) -> None:
    """It must not pass by the number of its pieces.

    And silence about everything says nothing of its counter.
    """
    waiting.locked = {identity(2)}
    asked = [prepare(number) for number in (1, 2, 3, 4)]

    fallen = waiting.say(prepares=asked, log_counter=1, counter_heard=5)
    sound = waiting.say(prepares=asked, log_counter=1, counter_heard=0)
    silent = waiting.say(
        prepares=[prepare(2)], aborts=[identity(9)], log_counter=1, counter_heard=0
    )

    assert fallen.counter is not None
    assert fallen.counter <= 5
    assert sound.counter == 1
    assert silent.counter is None


class _HeldUp(Told):
    """Never acknowledges the first abort that it hears."""

    def _all(self, message: Round) -> Ballot:
        ballot = super()._all(message)
        return ballot.model_copy(
            update={"acknowledged": [each for each in ballot.acknowledged if each != identity(1)]}
        )


@pytest.fixture
def held_up() -> Iterator[_HeldUp]:
    """Return a participant in which one row is locked."""
    return _HeldUp()


async def test_a_decision_that_is_held_up_rides_on_no_round_of_prepares(held_up: _HeldUp) -> None:
    """The first round that carries it waits for the locked row.

    The next ones go without it, and one of its own tries again.
    """
    remote = RemoteParticipant("payment", held_up)
    remote.announce([(identity(1), Decision.CANCELLED), (identity(2), Decision.CANCELLED)])

    await remote.ask([prepare(3)], LogPosition(1))
    await remote.ask([prepare(4)], LogPosition(1))
    await remote._exchange(LogPosition(1), ())

    assert [message.aborts for message in held_up.rounds] == [
        [identity(1), identity(2)],
        [],
        [identity(1)],
    ]
    assert remote.unacknowledged == 1


@pytest.mark.parametrize("failure", [Locked("lock timeout"), RuntimeError("of any kind")])
def test_a_question_that_fails_is_not_answered_as_by_one_that_does_not_count(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """F21: a coordinator that once heard no counter would send none for as long as it lives."""

    def failing(*_: Any, **__: Any) -> Any:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(waiting.participant.store, "add", failing)
        with pytest.raises(Unavailable):
            waiting.say()

    assert waiting.say().counter is not None
