"""The counters of forced rounds on real PostgreSQL: exact, never falling, and in nobody's way."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from two_phase.participant.round_counter import Counters
from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2, SqlBranchStore


@pytest.fixture
def store(participant_engine: Engine) -> SqlBranchStore:
    """Return the branches of a participant that has nothing yet."""
    with participant_engine.begin() as connection:
        connection.execute(text(BRANCHES_DDL_1 + BRANCHES_DDL_2))
    return SqlBranchStore(participant_engine)


def _count(store: SqlBranchStore, log_counter: int = 0, *, forced: bool = True) -> Counters:
    with store.begin(forced=forced) as connection:
        return store.add(connection, [], forced=forced, log_counter=log_counter)


def test_who_begins_after_another_has_ended_gets_a_higher_counter(store: SqlBranchStore) -> None:
    """R12: a counter that is not higher than one heard before can only come from an older backup."""
    heard = 0
    with ThreadPoolExecutor(4) as pool:
        # Each begins after all of the group before have ended, and overlaps with the three of its
        # own group.
        for _ in range(50):
            counters = [each.counter for each in pool.map(_count, [store] * 4)]
            assert min(counters) > heard
            heard = max(counters)

    assert store.counters().counter == 200


def test_a_round_that_is_rolled_back_is_not_counted(store: SqlBranchStore) -> None:
    """A counter that was never durable must not be expected again."""

    def fails() -> None:
        with store.begin(forced=True) as connection:
            store.add(connection, [], forced=True, log_counter=7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()

    assert store.counters() == Counters(0, 0)


def test_what_was_seen_of_the_log_never_falls(store: SqlBranchStore) -> None:
    """R12: whoever has heard least, the highest counter of the log stands.

    And only forced rounds are counted.
    """
    seen = [_count(store, log_counter, forced=False) for log_counter in (5, 3, 9, 0)]

    assert seen == [Counters(0, 5), Counters(0, 5), Counters(0, 9), Counters(0, 9)]


def test_a_counter_is_lifted_once_and_never_lowered(store: SqlBranchStore) -> None:
    """A reconciliation that is repeated changes nothing."""
    _count(store)

    assert [store.raise_to(counter).counter for counter in (100, 100, 50)] == [100, 100, 100]
    assert _count(store).counter == 101
