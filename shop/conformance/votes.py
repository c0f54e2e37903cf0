"""The rules on votes: what is asked for is taken once, in the order of arrival, and the answer is kept."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from shop.conformance.trial import Payload, Trial, demand, violated
from shop.conformance.wire import NotTried
from two_phase.messages import MAX_INTEGER, Prepare, new_transaction_id

AT_ONCE = 6
#: The smallest capacity with which a round can have a yes, a no and a yes.
CAPACITY_MIN = 3


def well_formed_ballot(trial: Trial) -> None:
    """Every answer is a ballot of version 1 that votes on each prepare, and mentions nothing that was not sent."""
    if trial.ill_formed:
        raise trial.ill_formed
    trial.round(
        aborts=[new_transaction_id()],
        commits=[new_transaction_id()],
        prepares=[trial.new(), trial.new()],
    )
    trial.round()
    if trial.ill_formed:
        raise trial.ill_formed


def repeated_prepare(trial: Trial) -> None:
    """A prepare that comes again gets the vote that was given, with the same facts."""
    prepare = trial.new()
    first = trial.vote(prepare)
    if not first.prepared:
        raise NotTried(f"the participant refuses the payload: {first.reason}, {first.detail}")

    demand(trial.vote(prepare) == first, "the vote is not the one that was given before")


def prepares_at_once(trial: Trial) -> None:
    """A prepare that comes several times at once gets one and the same vote."""
    rest_on_repeated_votes(trial)
    prepare = trial.new()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        votes = list(pool.map(trial.vote, [prepare] * AT_ONCE))

    demand(all(vote == votes[0] for vote in votes), "the votes on one prepare differ")
    demand(trial.vote(prepare) == votes[0], "the vote is not the one that was given before")


def refusal_is_kept(trial: Trial) -> None:
    """A refusal is a vote with a reason, in a 200, and comes again for the same prepare."""
    if trial.offer.refused_payload is None:
        raise NotTried("no --refused-payload was given")
    prepare = trial.new(trial.offer.refused_payload)
    first = trial.vote(prepare)
    if first.prepared:
        raise NotTried("the participant accepts --refused-payload")

    demand(trial.vote(prepare) == first, "the vote is not the one that was given before")


def prepare_with_another_body(trial: Trial) -> None:
    """A prepare of a known transaction with another payload gets no vote, and is a violation."""
    prepare = trial.prepared()

    ballot = trial.round(prepares=[with_another_body(prepare)])

    demand(not ballot.votes, "a vote was given for a payload that was never prepared")
    demand(violated(ballot, prepare.transaction_id), "it is not among the violations")


def greedy_votes(trial: Trial) -> None:
    """Votes fall in the order of arrival, and what does not fit does not stand in the way of a smaller one behind it."""
    capacity = _free(trial)
    asked = [trial.new(trial.offer.sized(amount)) for amount in (capacity - 1, 2, 1)]

    demand(
        _yes(trial, asked) == [True, False, True],
        f"with {capacity} free: yes to {capacity - 1}, no to 2, yes to 1 was due",
    )
    trial.give_back()
    asked = [trial.new(trial.offer.sized(amount)) for amount in (capacity + 1, capacity, 1)]
    demand(
        _yes(trial, asked) == [False, True, False],
        f"with {capacity} free: no to {capacity + 1}, then yes, then no was due",
    )


def one_hold(trial: Trial) -> None:
    """A prepare that comes again takes nothing again."""
    capacity = _free(trial)
    prepare = trial.prepared(trial.offer.sized(capacity - 1))

    trial.vote(prepare)

    demand(
        trial.vote(trial.new(trial.offer.sized(1))).prepared,
        "the last unit was taken by a repeated prepare",
    )


def given_back_once(trial: Trial) -> None:
    """An abort gives back what was taken, all of it, and no second time when it is repeated."""
    capacity = _capacity(trial)
    if trial.vote(trial.new(trial.offer.sized(capacity + 1))).prepared:
        raise NotTried(f"--capacity {capacity} is less than there is to take")
    prepare = trial.prepared(trial.offer.sized(capacity))

    for _ in range(2):
        trial.round(aborts=[prepare.transaction_id])

    exchange = trial.wire.exchanges[-1]
    more = trial.vote(trial.new(trial.offer.sized(capacity + 1)))
    demand(not more.prepared, "it was given back twice: more can be taken than before", exchange)
    again = trial.vote(trial.new(trial.offer.sized(capacity)))
    demand(
        again.prepared,
        "it was not given back: what could be taken before cannot be taken now",
        exchange,
    )


def committed_stays_taken(trial: Trial) -> None:
    """A commit gives nothing back and takes nothing more, however often it comes."""
    capacity = _free(trial)
    prepare = trial.prepared(trial.offer.sized(1))

    for _ in range(2):
        trial.round(commits=[prepare.transaction_id])
    trial.capacity = capacity - 1

    demand(
        not trial.vote(trial.new(trial.offer.sized(capacity))).prepared,
        "what was committed can be taken again",
    )
    demand(
        trial.vote(trial.new(trial.offer.sized(capacity - 1))).prepared,
        "a commit has taken more than its prepare",
    )


def rest_on_repeated_votes(trial: Trial) -> None:
    """Raise NotTried where a vote changes even if nothing else happens."""
    prepare = trial.new()
    if trial.vote(prepare) != trial.vote(prepare):
        raise NotTried("it rests on repeated_prepare")


def with_another_body(prepare: Prepare) -> Prepare:
    """Return ``prepare`` with a payload that differs in one member."""
    other: Payload = {**prepare.payload, "conformance": "another body"}
    return prepare.model_copy(update={"payload": other})


def _yes(trial: Trial, asked: list[Prepare]) -> list[bool]:
    votes = {vote.transaction_id: vote.prepared for vote in trial.round(prepares=asked).votes}
    return [votes.get(prepare.transaction_id, False) for prepare in asked]


def _capacity(trial: Trial) -> int:
    capacity = trial.capacity
    if trial.offer.sized_payload is None or capacity is None:
        raise NotTried("--sized-payload and --capacity were not given")
    if capacity < CAPACITY_MIN:
        raise NotTried(f"a capacity of {capacity} is too small to tell, {CAPACITY_MIN} will do")
    return capacity


def _free(trial: Trial) -> int:
    """Return how much there is to take, having seen that it is neither more nor less.

    Raises NotTried.
    """
    capacity = _capacity(trial)
    more = trial.vote(trial.new(trial.offer.sized(capacity + 1)))
    vote = trial.vote(trial.new(trial.offer.sized(capacity)))
    trial.give_back()
    if more.prepared or not vote.prepared:
        raise NotTried(
            f"--capacity {capacity} is {'less' if more.prepared else 'more'} than there is to take"
        )
    return capacity


def counters(trial: Trial) -> None:
    """A participant that counts gives a higher counter to each later round of prepares, and takes none if more was heard of it."""
    prepares = [trial.new() for _ in range(3)]
    first_answer = trial.round()
    if first_answer.counter is None:
        # It does not count, and is told nothing of counters.
        return
    seen = first_answer.log_seen + 2
    ballots = [
        trial.round(prepares=[prepare], log_counter=log_counter)
        for prepare, log_counter in zip(prepares, (seen, seen - 1, seen), strict=True)
    ]

    late = trial.new()
    fallen = trial.round(prepares=[late], log_counter=seen, counter_heard=MAX_INTEGER)
    demand(not fallen.votes, "it was heard further than it is, and votes")
    counted = [
        first_answer.counter,
        *(-1 if ballot.counter is None else ballot.counter for ballot in ballots),
    ]
    demand(
        all(later > earlier for earlier, later in pairwise(counted)), f"the counters are {counted}"
    )
    demand(
        all(ballot.log_seen == seen for ballot in ballots),
        f"the log was seen at {[each.log_seen for each in ballots]}",
    )
    demand(
        trial.vote(prepares[0]).prepared == ballots[0].votes[0].prepared,
        "the vote is not the one that was given before",
    )
