"""Calls that travel together.

One at a time, in the order of arrival, and nobody hears another's answer.
"""

import asyncio
from collections.abc import Sequence

import pytest

from two_phase.coordinator.group_commit import GroupCommit


class Work:
    """Answers questions by doubling them, when it is allowed to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.allowed = asyncio.Event()
        self.failures: list[Exception] = []

    async def __call__(self, questions: Sequence[int]) -> Sequence[int]:
        """Return the answers, or fail."""
        self.batches.append(list(questions))
        await self.allowed.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [2 * each for each in questions]


async def test_what_arrives_during_a_call_shares_the_next_one() -> None:
    """GroupCommit commit without a timer.

    The first travels alone and at once, the others together, up to the limit.
    """
    work = Work()
    group: GroupCommit[int, int] = GroupCommit(work, 3)

    calls = [asyncio.create_task(group(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls += [asyncio.create_task(group(each)) for each in (2, 3, 4, 5)]
    work.allowed.set()

    assert await asyncio.gather(*calls) == [2, 4, 6, 8, 10]
    assert work.batches == [[1], [2, 3, 4], [5]]


async def test_a_failure_belongs_to_those_who_shared_the_call() -> None:
    """A call that failed fails for each of its callers, and the next one works."""
    work = Work()
    work.allowed.set()
    work.failures = [ValueError("broken")]
    group: GroupCommit[int, int] = GroupCommit(work, 2)

    first = await asyncio.gather(group(1), group(2), group(3), return_exceptions=True)

    assert [type(each) for each in first] == [ValueError, ValueError, int]
    assert await group(4) == 8


async def test_who_went_away_does_not_disturb_the_others() -> None:
    """A caller whose patience ended leaves a call that works, and one that fails, to the others."""
    work = Work()
    group: GroupCommit[int, int] = GroupCommit(work, 4)
    for failures in ([], [ValueError("broken")]):
        work.failures, work.allowed = list(failures), asyncio.Event()
        gone, stays = asyncio.create_task(group(1)), asyncio.create_task(group(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        work.allowed.set()

        answers = await asyncio.gather(gone, stays, return_exceptions=True)

        assert [type(each) for each in answers] == [
            asyncio.CancelledError,
            ValueError if failures else int,
        ]


async def test_an_answer_for_nobody_is_a_failure() -> None:
    """Every question has exactly one answer.

    Anything else is a bug, and each caller hears of it.
    """

    async def forgetful(_questions: Sequence[int]) -> Sequence[int]:
        return []

    with pytest.raises(AssertionError):
        await GroupCommit(forgetful, 2)(1)
