"""The simulated world is as hard as the real one.

Death is final, a pause holds everything, and a crash takes what was not flushed.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from simulation.clock import Life, VirtualLoop
from simulation.disk import Disk, LocalTransaction
from simulation.sessions import Rows, Sessions, failure


async def tick(heard: list[float]) -> None:
    """Write down the time, every second, to the end of days."""
    try:
        while True:
            await asyncio.sleep(1)
            heard.append(asyncio.get_running_loop().time())
    finally:
        heard.append(-1.0)


def started(loop: VirtualLoop, heard: list[float]) -> Life:
    """Return a life that ticks."""
    life = Life("order-1", "order")
    loop.call_soon(lambda: loop.create_task(tick(heard)), context=life.context)
    return life


def test_nothing_of_a_dead_process_runs_again() -> None:
    """A SIGKILL: no callback, no timer and no ``finally`` block, until the world is cleared away."""
    loop, heard = VirtualLoop(0.0), list[float]()

    async def main() -> None:
        life = started(loop, heard)
        await asyncio.sleep(2.5)
        life.alive = False
        await asyncio.sleep(5)
        assert heard == [1.0, 2.0]

    loop.run(main())


def test_a_paused_process_finds_everything_when_it_wakes() -> None:
    """A SIGSTOP: what became due meanwhile happens afterwards, late."""
    loop, heard = VirtualLoop(0.0), list[float]()

    async def main() -> None:
        life = started(loop, heard)
        await asyncio.sleep(1.5)
        life.paused = True
        await asyncio.sleep(10)
        assert heard == [1.0]
        loop.wake(life)
        await asyncio.sleep(2)
        assert heard == [1.0, 11.5, 12.5]

    loop.run(main())


def written(disk: Disk, key: str, row: int | None, *, flush: bool) -> None:
    """Write a row in a transaction of its own."""
    transaction = LocalTransaction(disk)
    transaction.put("rows", key, row)
    disk.commit(transaction.changes, flush=flush)


@pytest.mark.parametrize(
    ("survivors", "left"), [(0, {"a": 1}), (1, {"a": 1, "b": 2}), (2, {"a": 3, "b": 2})]
)
def test_a_crash_takes_the_newest_first(survivors: int, left: Mapping[str, int]) -> None:
    """A write-ahead log: what was flushed stays, and of the rest any beginning may."""
    disk = Disk("place", ("rows",))
    written(disk, "a", 1, flush=True)
    written(disk, "b", 2, flush=False)
    written(disk, "a", 3, flush=False)
    assert disk.tables["rows"] == {"a": 3, "b": 2}
    assert (disk.durable("rows", "a"), disk.durable("rows", "b")) == (1, None)

    disk.die(survivors)

    assert disk.tables["rows"] == left


def test_a_flush_takes_everything_before_it_along() -> None:
    """One forced write makes all earlier ones durable."""
    disk = Disk("place", ("rows",))
    written(disk, "a", 1, flush=False)
    written(disk, "b", 2, flush=True)

    disk.die(0)

    assert disk.tables["rows"] == {"a": 1, "b": 2}


class Statement:
    """Stands for an SQL text."""

    def __init__(self, text: str) -> None:
        self.text = text


class Echo:
    """Answers each statement after a second by its own words, or as it was told to."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.performed: list[str] = []
        self._loop = loop

    def perform(
        self,
        statement: str,
        _parameters: Mapping[str, Any],
        answer: Callable[[Rows | Exception], None],
    ) -> None:
        """Answer later."""
        self.performed.append(statement)
        answered = failure("40P01") if statement == "fail" else Rows([(statement,)])
        self._loop.call_later(1, answer, answered)


def test_blocking_work_interleaves_at_every_statement() -> None:
    """Two pieces of work take their turns, each statement is executed once, and its failure reaches the work."""
    loop = VirtualLoop(0.0)
    echo = Echo(loop)
    sessions = Sessions(echo, loop)

    def work(name: str) -> Any:
        with sessions.connect() as connection:
            first = connection.execute(Statement(f"{name} 1")).scalar_one()
            sessions.sleep(0.5)
            with pytest.raises(OperationalError):
                connection.execute(Statement("fail"))
            return [first, connection.execute(Statement(f"{name} 2")).scalar_one()]

    async def main() -> None:
        both = [
            loop.run_in_executor(sessions, lambda name=name: work(name))
            for name in ("left", "right")
        ]
        assert await asyncio.gather(*both) == [["left 1", "left 2"], ["right 1", "right 2"]]
        assert loop.time() == 3.5

    loop.run(main())
    assert echo.performed == ["left 1", "right 1", "fail", "fail", "left 2", "right 2"]
