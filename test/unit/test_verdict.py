"""The coordinator's rule: every vote must be a yes, and silence is a no."""

import itertools

import pytest

from two_phase.coordinator.verdict import Transaction, judge
from two_phase.messages import Decision, TransactionId, Vote

ID: TransactionId = "00000000-0000-7000-8000-000000000001"
OTHER: TransactionId = "00000000-0000-7000-8000-000000000002"
PARTICIPANTS = ("payment", "stock", "delivery")
TRANSACTION = Transaction(ID, {name: {} for name in PARTICIPANTS})
YES = Vote(transaction_id=ID, prepared=True)
NO = Vote(transaction_id=ID, prepared=False, reason="out_of_stock", detail="too few")


@pytest.mark.parametrize("votes", list(itertools.product((YES, NO, None), repeat=3)))
def test_only_three_yes_votes_confirm(votes: tuple[Vote | None, ...]) -> None:
    """L1: no confirmation without every vote; R7.

    A participant that is silent has not voted yes.
    """
    heard = {name: vote for name, vote in zip(PARTICIPANTS, votes, strict=True) if vote is not None}

    verdict = judge(TRANSACTION, heard)

    assert (verdict.decision is Decision.CONFIRMED) == (votes == (YES, YES, YES))
    assert verdict.refusals == {name: vote for name, vote in heard.items() if vote is NO}
    assert verdict.silent == [name for name in PARTICIPANTS if name not in heard]


def test_a_vote_on_another_transaction_is_no_vote() -> None:
    """R6: a vote counts for the transaction asked about alone."""
    with pytest.raises(AssertionError):
        judge(TRANSACTION, {"payment": Vote(transaction_id=OTHER, prepared=True)})


def test_a_vote_of_somebody_who_was_not_asked_is_no_vote() -> None:
    """R6: who was not asked cannot make up for somebody who is silent."""
    with pytest.raises(AssertionError):
        judge(TRANSACTION, {"somebody": YES})
