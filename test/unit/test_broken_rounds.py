"""Rounds that break, lose a race or meet an older backup.

Poison stays alone, and nothing is answered that is not durable.
"""

import pytest

from two_phase.errors import Unavailable
from two_phase.participant import participant as participant_module
from unit.small_participant import Place, identity, prepare, votes


@pytest.fixture
def place() -> Place:
    """Return a participant with ten units."""
    return Place()


def test_a_poisonous_branch_is_refused_alone(place: Place) -> None:
    """R8: the neighbours of a branch that breaks the transaction go ahead, and so do the decisions in the round."""
    place.say(prepares=[prepare(1), prepare(2)])
    place.poison = {identity(4)}

    ballot = place.say(
        aborts=[identity(1)], commits=[identity(2)], prepares=[prepare(3), prepare(4), prepare(5)]
    )

    assert votes(ballot) == {identity(3): True, identity(4): False, identity(5): True}
    assert ballot.acknowledged == [identity(1), identity(2)]
    assert {vote.reason for vote in ballot.votes} == {None, "not_accepted"}
    assert place.say(prepares=[prepare(4)]).votes == [ballot.votes[1]]


def test_a_vote_found_after_a_failure_is_flushed_too(place: Place) -> None:
    """R4 holds on the way through poison.

    Another replica's vote is repeated only when it is durable.
    """
    place.script.next = ["unflushed"]
    with pytest.raises(Unavailable):
        place.say(prepares=[prepare(1, 4)])
    recorded = place.disk.tables["branches"].copy()
    place.poison = {identity(1)}

    ballot = place.say(prepares=[prepare(1, 4)])

    assert votes(ballot) == {identity(1): True}
    place.disk.die(0)
    assert place.disk.tables["branches"] == recorded


def test_a_decision_that_fails_alone_is_not_acknowledged(place: Place) -> None:
    """R8: it comes again until it can be applied."""
    place.say(prepares=[prepare(1), prepare(2)])
    place.script.next = ["poison", "poison"]

    ballot = place.say(aborts=[identity(1), identity(2)])

    assert ballot.acknowledged == [identity(2)]
    assert place.say(aborts=[identity(1)]).acknowledged == [identity(1)]


def test_a_round_that_lost_a_race_is_repeated(place: Place) -> None:
    """R9: a deadlock or a lost race costs a repetition, and leaves nothing behind."""
    place.script.next = ["collision"] * 3

    assert votes(place.say(prepares=[prepare(1, 4)])) == {identity(1): True}
    assert place.units == 6


def test_a_round_that_loses_every_race_has_no_answer(place: Place) -> None:
    """R13: repetitions have a limit; the coordinator hears nothing and tries again."""
    place.script.next = ["collision"] * participant_module.COLLISIONS_MAX

    with pytest.raises(Unavailable):
        place.say(prepares=[prepare(1)])
    assert place.states() == {}


@pytest.mark.parametrize(
    "faults",
    [
        ["refused"],
        ["poison", "refused"],
        ["poison", "poison", "refused"],
        ["poison", "poison", *["collision"] * participant_module.COLLISIONS_MAX],
        ["poison", "poison", "locked"],
    ],
)
def test_a_database_that_does_not_answer_gives_no_vote(place: Place, faults: list[str]) -> None:
    """R6: wherever the database goes away, there is no answer rather than a wrong one."""
    place.script.next = list(faults)

    with pytest.raises(Unavailable):
        place.say(prepares=[prepare(1)])
    assert place.units == 10


def test_one_answer_for_each_question_is_a_law_for_the_trade(place: Place) -> None:
    """A ``take`` that forgets somebody is a bug, and its orders are refused one by one."""
    place.participant._take = lambda _connection, _asked: []

    assert votes(place.say(prepares=[prepare(1), prepare(2)])) == {
        identity(1): False,
        identity(2): False,
    }


def test_a_participant_of_which_more_was_heard_takes_nothing_and_does_not_count(
    place: Place,
) -> None:
    """R12: what was restored from an older backup takes no prepares, whoever asks, until it is reconciled."""
    asked = {"log_counter": 9, "prepares": [prepare(1)]}
    place.say(prepares=[prepare(9)])

    ballots = [place.say(**asked, counter_heard=2) for _ in range(3)]
    decided = place.say(log_counter=9, counter_heard=2, aborts=[identity(9)])
    taken = place.say(**asked, counter_heard=1)

    assert [(each.votes, each.counter) for each in ballots] == [([], 1)] * 3
    assert (decided.acknowledged, decided.counter) == ([identity(9)], 1)
    assert (votes(taken), taken.counter) == ({identity(1): True}, 2)
    assert place.units == 9


def test_a_commit_in_a_round_that_breaks_makes_nobody_look_restored(place: Place) -> None:
    """R12: pieces without a prepare are not counted, and say nothing of how far the round has come."""
    before = place.say(log_counter=0, prepares=[prepare(1), prepare(2)])
    place.poison = {identity(3)}

    ballot = place.say(
        log_counter=0,
        commits=[identity(1)],
        aborts=[identity(2)],
        prepares=[prepare(3), prepare(4)],
    )

    assert votes(ballot) == {identity(3): False, identity(4): True}
    assert ballot.counter > before.counter


def test_a_poisonous_round_has_the_counter_of_its_first_piece(place: Place) -> None:
    """R12: a restored participant must not pass for another by counting the pieces of one round."""
    place.poison.add(identity(2))

    ballot = place.say(log_counter=0, prepares=[prepare(1), prepare(2), prepare(3)])

    assert votes(ballot) == {identity(1): True, identity(2): False, identity(3): True}
    assert (ballot.counter, place.store.counters().counter) == (1, 3)
