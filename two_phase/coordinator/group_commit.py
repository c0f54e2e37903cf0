"""Calls that travel together.

Whatever arrives while the last call is under way shares the next one (group commit).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class GroupCommit(Generic[Q, A]):
    """Turns a function over many questions into one over a single question, without a timer."""

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], limit: int) -> None:
        self._work = work
        self._limit = limit
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, question: Q) -> A:
        """Return the answer to ``question``; raises what the shared call raised."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work_off())
        return await answer

    async def _work_off(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
            try:
                answers = await self._work([question for question, _ in batch])
                assert len(answers) == len(batch)
            except Exception as failure:  # noqa: BLE001 - it belongs to those who asked
                for _, future in batch:
                    if not future.done():
                        future.set_exception(failure)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        self._worker = None
