"""The rules on decisions: each is applied once, may come again, and is refused where it contradicts the record."""

from shop.conformance.trial import Trial, demand, violated
from two_phase.messages import new_transaction_id


def abort_before_prepare(trial: Trial) -> None:
    """An abort that overtakes its prepare is acknowledged, and the prepare that comes later is refused."""
    late = trial.new()
    trial.prepared()

    ballot = trial.round(aborts=[late.transaction_id])

    demand(
        late.transaction_id in ballot.acknowledged,
        "an abort of an unknown transaction was not acknowledged",
    )
    demand(not trial.vote(late).prepared, "a prepare was accepted after its abort")


def commit_of_unknown(trial: Trial) -> None:
    """A commit of an unknown transaction is a violation, and never acknowledged."""
    unknown = new_transaction_id()

    demand(
        violated(trial.round(commits=[unknown]), unknown),
        "it is not a violation, or it was acknowledged",
    )


def commit_of_aborted(trial: Trial) -> None:
    """A commit of an aborted transaction is a violation, and never acknowledged."""
    prepare = trial.prepared()
    trial.round(aborts=[prepare.transaction_id])

    ballot = trial.round(commits=[prepare.transaction_id])

    demand(
        violated(ballot, prepare.transaction_id), "it is not a violation, or it was acknowledged"
    )


def abort_of_committed(trial: Trial) -> None:
    """An abort of a committed transaction is a violation, never acknowledged, and changes nothing."""
    prepare = trial.prepared()
    trial.round(commits=[prepare.transaction_id])

    ballot = trial.round(aborts=[prepare.transaction_id])

    demand(
        violated(ballot, prepare.transaction_id), "it is not a violation, or it was acknowledged"
    )
    demand(trial.vote(prepare).prepared, "it is not committed any more")


def repeated_commit(trial: Trial) -> None:
    """A commit is acknowledged each time it comes, and also when it stands twice in a round."""
    prepare = trial.prepared()

    for commits in ([prepare.transaction_id], [prepare.transaction_id] * 2):
        ballot = trial.round(commits=commits)
        demand(prepare.transaction_id in ballot.acknowledged, "a commit was not acknowledged")
        demand(not ballot.violations, "a commit was called a violation")


def repeated_abort(trial: Trial) -> None:
    """An abort is acknowledged each time it comes, also when it stands twice in a round, and its prepare stays refused."""
    prepare = trial.prepared()

    for aborts in ([prepare.transaction_id], [prepare.transaction_id] * 2):
        ballot = trial.round(aborts=aborts)
        demand(prepare.transaction_id in ballot.acknowledged, "an abort was not acknowledged")
        demand(not ballot.violations, "an abort was called a violation")
    demand(not trial.vote(prepare).prepared, "a prepare was accepted after its abort")


def order_inside_a_round(trial: Trial) -> None:
    """A round's aborts come first, then its commits, then its prepares."""
    first, second, third = trial.prepared(), trial.prepared(), trial.new()

    trial.round(aborts=[first.transaction_id], commits=[first.transaction_id])
    both = trial.wire.exchanges[-1]
    demand(not trial.vote(first).prepared, "a commit was applied before an abort", both)

    votes = trial.round(aborts=[second.transaction_id], prepares=[second]).votes
    demand(not any(vote.prepared for vote in votes), "a prepare was applied before an abort")

    trial.round(commits=[third.transaction_id], prepares=[third])
    both = trial.wire.exchanges[-1]
    ballot = trial.round(aborts=[third.transaction_id])
    demand(
        third.transaction_id in ballot.acknowledged, "a prepare was applied before a commit", both
    )


def instead_of(trial: Trial) -> None:
    """A prepare's `instead_of` are aborted and acknowledged before anything is taken."""
    everything = (
        trial.offer.sized(trial.capacity) if trial.offer.sized_payload and trial.capacity else None
    )
    first = trial.prepared(everything)
    second = trial.new(everything, instead_of=[first.transaction_id])

    ballot = trial.round(prepares=[second])

    demand(
        first.transaction_id in ballot.acknowledged,
        "the earlier attempt was not acknowledged as aborted",
    )
    demand(
        all(vote.prepared for vote in ballot.votes),
        "the second attempt was refused for what the first one held",
    )
    demand(not trial.vote(first).prepared, "the earlier attempt is still prepared")
