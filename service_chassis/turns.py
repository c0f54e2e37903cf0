"""One call at a time for one resource: a locked row takes one thread and connection, not all.

Writers of one row wait for each other in the database in any case; here they wait without a
connection. Readers of one resource that have to ask the coordinator ask together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from two_phase.coordinator.group_commit import GroupCommit
from two_phase.errors import Unavailable

Q = TypeVar("Q")
A = TypeVar("A")

_TOGETHER_MAX = 256


class Turns:
    """Turns at resources, each in the order of the requests; idle resources are forgotten."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def at(self, resource: Hashable) -> AsyncIterator[None]:
        """Have a turn at ``resource`` inside the block.

        Raises Unavailable when others keep it for too long.
        """
        lock = self._locks.setdefault(resource, asyncio.Lock())
        try:
            await asyncio.wait_for(lock.acquire(), self._timeout_seconds)
        except TimeoutError:
            raise Unavailable("too many requests wait for the same row") from None
        try:
            yield
        finally:
            lock.release()


class Together(Generic[Q, A]):
    """Calls for one resource that travel together; those for others do not wait for them."""

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[A]]) -> None:
        self._work = work
        self._groups: WeakValueDictionary[Hashable, GroupCommit[Q, A]] = WeakValueDictionary()

    async def __call__(self, resource: Hashable, question: Q) -> A:
        """Ask ``question`` with those for ``resource`` meanwhile; return the answer to all.

        Raises what the shared call raised.
        """
        group = self._groups.setdefault(resource, GroupCommit(self._all, _TOGETHER_MAX))
        return await group(question)

    async def _all(self, questions: Sequence[Q]) -> Sequence[A]:
        return [await self._work(questions)] * len(questions)
