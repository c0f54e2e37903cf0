"""One round at one participant.

Votes are recorded before they are given, repeated messages find the record, poison stays alone.

Every sequence of messages is compared with PostgreSQL in test/integration; here are the rules one
by one, and what goes wrong.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from simulation.disk import Disk, LocalTransaction
from simulation.store import MemoryBranchStore
from two_phase.errors import Refused, Unavailable
from two_phase.messages import Prepare, Round, State, Taken, TransactionId
from two_phase.participant import participant as participant_module
from two_phase.participant.participant import Participant


class Ask(BaseModel):
    """So much of what there is."""

    amount: int


class Script:
    """A fate that is written down: what happens to the next local transactions."""

    def __init__(self) -> None:
        self.over = False
        self.next: list[str] = []

    def at(self, _kind: str, _what: str) -> str:
        """Return the next fault."""
        return self.next.pop(0) if self.next else ""


class Place:
    """A participant with ten units, on a disk that forgets what was not flushed."""

    def __init__(self) -> None:
        self.script: Any = Script()
        self.disk = Disk("place", ("branches", "counters", "stock"))
        self.disk.tables["stock"]["units"] = 10
        self.store = MemoryBranchStore(
            self.disk, self.script, lambda: 0.0, lambda: self.disk.die(0)
        )
        self.participant: Participant[Any, Ask] = Participant(
            self.store, Ask, self._take, self._give_back
        )
        self.poison: set[TransactionId] = set()

    def _take(
        self, connection: LocalTransaction, asked: Sequence[tuple[TransactionId, Ask]]
    ) -> list[Taken | Refused]:
        return [self._taken(connection, *each) for each in asked]

    def _taken(
        self, connection: LocalTransaction, transaction_id: TransactionId, ask: Ask
    ) -> Taken | Refused:
        if transaction_id in self.poison:
            raise ZeroDivisionError(transaction_id)
        if ask.amount > self.units:
            return Refused(
                "too_much", f"{self.units} are left", contended=True, facts={"left": self.units}
            )
        connection.put("stock", "units", self.units - ask.amount)
        return Taken(facts={"took": ask.amount})

    def _give_back(
        self, connection: LocalTransaction, taken: Sequence[tuple[TransactionId, Ask]]
    ) -> None:
        for _, ask in taken:
            connection.put("stock", "units", self.units + ask.amount)

    @property
    def units(self) -> int:
        """How many are left."""
        return int(self.disk.tables["stock"]["units"])

    def states(self) -> dict[TransactionId, State]:
        """Return every branch's state."""
        return {each: row.branch.state for each, row in self.disk.tables["branches"].items()}

    def say(self, **contents: Any) -> Any:
        """Send a round and return its ballot."""
        return self.participant.round(Round(generation=1, **contents))


def identity(number: int) -> TransactionId:
    """Return an id."""
    return f"00000000-0000-7000-8000-{number:012x}"


def prepare(number: int, amount: int = 1, *instead_of: int) -> Prepare:
    """Return a prepare."""
    earlier = [identity(each) for each in instead_of]
    return Prepare(transaction_id=identity(number), payload={"amount": amount}, instead_of=earlier)


@pytest.fixture
def place() -> Place:
    """Return a participant."""
    return Place()


def votes(ballot: Any) -> dict[TransactionId, bool]:
    """Return the votes of a ballot."""
    return {vote.transaction_id: vote.prepared for vote in ballot.votes}


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
        ["poison", "poison", "collision"],
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
