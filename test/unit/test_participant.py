"""One round at one participant.

Votes are recorded before they are given, repeated messages find the record, poison stays alone.

Every sequence of messages is compared with PostgreSQL in test/integration; here are the rules one
by one, and what goes wrong.
"""

import pytest

from two_phase.errors import Unavailable
from two_phase.messages import Prepare, State
from unit.small_participant import Place, identity, prepare, votes


@pytest.fixture
def place() -> Place:
    """Return a participant."""
    return Place()


def test_votes_are_greedy_in_the_order_of_arrival(place: Place) -> None:
    """R9: an order that does not fit does not block a smaller one behind it."""
    ballot = place.say(prepares=[prepare(1, 8), prepare(2, 3), prepare(3, 2)])

    assert votes(ballot) == {identity(1): True, identity(2): False, identity(3): True}
    assert place.units == 0
    refusal = ballot.votes[1]
    assert (refusal.reason, refusal.contended, refusal.facts) == ("too_much", True, {"left": 2})


def test_a_repeated_prepare_finds_its_vote(place: Place) -> None:
    """R5: asked twice, taken once; within one round too."""
    first = place.say(prepares=[prepare(1, 4), prepare(1, 4), prepare(2, 7)])
    second = place.say(prepares=[prepare(1, 4), prepare(2, 7)])

    assert first.votes == second.votes
    assert place.units == 6


def test_a_prepare_with_another_body_is_a_violation(place: Place) -> None:
    """R5: a known id stands for one request."""
    place.say(prepares=[prepare(1, 4)])

    ballot = place.say(prepares=[prepare(1, 5)])

    assert [each.transaction_id for each in ballot.violations] == [identity(1)]
    assert votes(ballot) == {}
    assert place.units == 6


def test_a_decision_is_applied_once(place: Place) -> None:
    """R5: commit and abort are compare-and-set, and what is given back is given back once."""
    place.say(prepares=[prepare(1, 4), prepare(2, 5)])

    ballots = [place.say(commits=[identity(1)] * 2, aborts=[identity(2)] * 2) for _ in range(2)]

    assert [each.acknowledged for each in ballots] == [[identity(2), identity(1)]] * 2
    assert place.states() == {identity(1): State.COMMITTED, identity(2): State.ABORTED}
    assert place.units == 6


def test_abort_that_overtakes_prepare_makes_it_refuse(place: Place) -> None:
    """R5: an abort of an unknown transaction leaves a row."""
    place.say(aborts=[identity(1)])

    assert votes(place.say(prepares=[prepare(1)])) == {identity(1): False}
    assert place.units == 10


@pytest.mark.parametrize("known", [False, True])
def test_commit_of_an_unknown_or_aborted_branch_is_a_violation(
    place: Place, *, known: bool
) -> None:
    """R5: never "not found, so done"."""
    if known:
        place.say(aborts=[identity(1)])

    ballot = place.say(commits=[identity(1)])

    assert ballot.acknowledged == []
    assert [each.detail for each in ballot.violations] == [
        f"commit of an {'aborted' if known else 'unknown'} branch"
    ]


def test_a_prepare_that_comes_again_with_its_own_commit_finds_the_vote(place: Place) -> None:
    """R5: whatever a round repeats, in whatever company, it changes nothing."""
    place.say(prepares=[prepare(1, 4)])

    ballot = place.say(commits=[identity(1)], prepares=[prepare(1, 4)])

    assert votes(ballot) == {identity(1): True}
    assert ballot.acknowledged == [identity(1)]
    assert place.units == 6


def test_abort_of_a_committed_branch_is_a_violation(place: Place) -> None:
    """L2: a decision never changes."""
    place.say(prepares=[prepare(1)])
    place.say(commits=[identity(1)])

    ballot = place.say(aborts=[identity(1)])

    assert ballot.acknowledged == []
    assert len(ballot.violations) == 1
    assert place.states() == {identity(1): State.COMMITTED}


def test_an_earlier_attempt_is_aborted_first(place: Place) -> None:
    """R11: two attempts at one order never compete for the same units."""
    place.say(prepares=[prepare(1, 10)])

    assert votes(place.say(prepares=[prepare(2, 10, 1, 3)])) == {identity(2): True}
    assert place.states() == {
        identity(1): State.ABORTED,
        identity(2): State.PREPARED,
        identity(3): State.ABORTED,
    }


def test_a_payload_that_is_not_understood_is_refused(place: Place) -> None:
    """A malformed wish is a vote, not a failure, and its neighbours are not disturbed."""
    odd = Prepare(transaction_id=identity(1), payload={"amount": "much"})

    first = place.say(prepares=[odd, odd, prepare(2)])

    assert votes(first) == {identity(2): True, identity(1): False}
    assert first.votes[1].reason == "not_accepted"
    assert place.say(prepares=[odd]).votes == [first.votes[1]]


def test_a_vote_is_durable_before_it_is_given(place: Place) -> None:
    """L3: what was voted survives the death of the database."""
    place.say(prepares=[prepare(1, 4)])

    place.disk.die(0)

    assert place.states() == {identity(1): State.PREPARED}
    assert place.units == 6


def test_a_vote_found_is_flushed_before_it_is_given(place: Place) -> None:
    """R4: a row found is not a row flushed."""
    place.script.next = ["unflushed"]
    with pytest.raises(Unavailable):
        place.say(prepares=[prepare(1, 4)])
    assert place.disk.durable("branches", identity(1)) is None

    assert votes(place.say(prepares=[prepare(1, 4)])) == {identity(1): True}
    place.disk.die(0)

    assert place.states() == {identity(1): State.PREPARED}


def test_a_commit_may_be_forgotten_and_is_applied_again(place: Place) -> None:
    """A decision is not forced: after a crash the branch is in doubt again, and the same decision settles it."""
    place.say(prepares=[prepare(1, 4)])
    place.say(commits=[identity(1)])

    place.disk.die(0)
    assert place.states() == {identity(1): State.PREPARED}
    place.disk.down = False
    place.say(commits=[identity(1)])

    assert place.states() == {identity(1): State.COMMITTED}
    assert place.units == 6
