"""The queue in front of a batch: what waits for the next one, and for whom the next one waits.

No timer makes it wait.

Callers that were answered together come again together. The first of them would otherwise leave
alone, and who must claim a key first would always miss the batch of the others.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

#: A request takes three turns of the event loop from its socket to the queue; the others leave its
#: sender time to send it.
QUIET_TURNS = 12


class BatchQueue(Generic[T]):
    """Items that leave together.

    ``arrival_seconds`` is how long they wait for those that are announced.
    """

    def __init__(self, arrival_seconds: float) -> None:
        self._arrival_seconds = arrival_seconds
        self._waiting: deque[T] = deque()
        self._arriving: set[asyncio.Future[None]] = set()
        self._arrival = asyncio.Event()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def is_under_way(self) -> bool:
        """Return whether anything waits, so that a batch will leave soon."""
        return self._arrival.is_set()

    def put(self, item: T) -> None:
        """Let ``item`` wait for the next batch."""
        self._waiting.append(item)
        self._arrival.set()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Announce what is put right after the block, so that the next batch waits for it."""
        coming = asyncio.get_running_loop().create_future()
        self._arriving.add(coming)
        try:
            yield
        finally:
            self._arriving.discard(coming)
            coming.set_result(None)

    async def wait_for_batch(self, enough: int) -> None:
        """Wait until ``enough`` items are queued, or one is and no more are arriving."""
        await self._arrival.wait()
        await self._wait_until_quiet(enough)
        if self._arriving and len(self._waiting) < enough:
            # Not for those who are announced meanwhile: where everybody claims a key, somebody
            # always is.
            await asyncio.wait(set(self._arriving), timeout=self._arrival_seconds)
            await self._wait_until_quiet(enough)

    async def _wait_until_quiet(self, enough: int) -> None:
        quiet_turns = 0
        while quiet_turns < QUIET_TURNS and len(self._waiting) < enough:
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if len(self._waiting) == before else 0

    def take(self) -> T | None:
        """Return who has waited longest, or None."""
        item = self._waiting.popleft() if self._waiting else None
        if not self._waiting:
            self._arrival.clear()
        return item
