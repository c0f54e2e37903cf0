"""A branch's vote, and what a database failure means for a round."""

from typing import Any

import pytest
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from two_phase.errors import Unavailable
from two_phase.messages import State
from two_phase.participant.branches import Branch, Collision, Poison
from two_phase.participant.sql_branches import SqlBranchStore
from two_phase.sql import bigint_array, id_array

ID = "00000000-0000-7000-8000-000000000001"


class DriverError(Exception):
    """What psycopg2 raises."""

    def __init__(self, pgcode: str | None, text: str = "") -> None:
        super().__init__(text)
        self.pgcode = pgcode


class FailingEngine:
    """A database whose every transaction ends with the same failure."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def begin(self) -> Any:
        """Fail."""
        raise self._failure


@pytest.mark.parametrize("state", [State.PREPARED, State.COMMITTED])
def test_a_promise_is_repeated_as_long_as_it_stands(state: State) -> None:
    """R5: a repeated prepare gets the recorded vote, also when its commit was faster."""
    vote = Branch(ID, state, 1, "{}", {"courier": "Olga"}).vote()

    assert (vote.transaction_id, vote.prepared, vote.reason, vote.facts) == (
        ID,
        True,
        None,
        {"courier": "Olga"},
    )


def test_a_refusal_is_repeated_word_for_word() -> None:
    """R5: the reason that was given stays the reason."""
    vote = Branch(
        ID, State.ABORTED, 1, "{}", {"prices": {"1": 5}}, "price_changed", "dearer", contended=True
    ).vote()

    assert (vote.prepared, vote.reason, vote.detail, vote.contended) == (
        False,
        "price_changed",
        "dearer",
        True,
    )
    assert vote.facts == {"prices": {"1": 5}}


def test_what_was_aborted_before_it_was_prepared_is_refused_with_a_reason() -> None:
    """A vote of no always says why."""
    vote = Branch(ID, State.ABORTED, 1).vote()

    assert (vote.prepared, vote.reason, vote.contended) == (False, "aborted", False)
    assert vote.detail


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [
        (OperationalError("s", {}, DriverError("40001")), Collision),
        (OperationalError("s", {}, DriverError("40P01")), Collision),
        (OperationalError("s", {}, DriverError("55P03")), Collision),
        (IntegrityError("s", {}, DriverError("23505", "branches_pkey")), Collision),
        (IntegrityError("s", {}, DriverError("23505", "another_key")), Poison),
        (IntegrityError("s", {}, DriverError("23514", "account_not_overdrawn")), Poison),
        (DataError("s", {}, DriverError("22P05")), Poison),
        (OperationalError("s", {}, DriverError(None)), Unavailable),
        (OperationalError("s", {}, DriverError("53300")), Unavailable),
        (PoolTimeoutError(), Unavailable),
    ],
)
def test_a_failure_of_the_database_is_a_collision_poison_or_no_answer(
    failure: Exception, meaning: type[Exception]
) -> None:
    """R6, R8 and R9: a lost race is repeated, a poisonous branch goes alone, and the rest is no answer."""
    store = SqlBranchStore(FailingEngine(failure))  # type: ignore[arg-type]

    with pytest.raises(meaning), store.begin(forced=True):
        raise AssertionError("unreachable")


def test_arrays_are_literals() -> None:
    """Trap 3: psycopg2 writes Python lists as ARRAY[...], which costs more than a literal."""
    assert id_array([ID, ID]) == f"{{{ID},{ID}}}"
    assert id_array([]) == "{}"
    assert bigint_array([1, 20]) == "{1,20}"
