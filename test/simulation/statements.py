"""A database server in memory: how statements take time, hold their rows, fail and die.

What each statement means is said in ``log.py``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

from sqlalchemy.exc import DBAPIError

from simulation.clock import VirtualLoop
from simulation.disk import Disk, LocalTransaction
from simulation.fate import Fate
from simulation.sessions import Rows, failure
from two_phase.coordinator import log_statements

LOCK_TIMEOUT = "55P03"
DEADLOCK = "40P01"

#: What the services set for every session; a decision insert sets its own.
LOCK_TIMEOUT_SECONDS = 2.0
#: When the operating system notices that nobody is at the other end any more.
_KEEPALIVE_SECONDS = 11.0

Write = Callable[[Mapping[str, Any], str], Awaitable[Rows]]
Read = Callable[[Mapping[str, Any]], Rows]
Answer = Callable[[Rows | Exception], None]


class SimulatedServer:
    """Takes statements, each in its own time, and holds rows while it does."""

    def __init__(
        self,
        disk: Disk,
        fate: Fate,
        loop: VirtualLoop,
        die: Callable[[], None],
        broke: Callable[[str, str], None],
        context: Context,
    ) -> None:
        self.disk = disk
        self._broke = broke
        self.under_way = 0
        self.sent = 0
        self._fate = fate
        self._loop = loop
        self._die = die
        self._context = context
        self._locks: dict[Any, asyncio.Future[None]] = {}
        self._writes: dict[str, Write] = {}
        self._reads: dict[str, Read] = {}

    def perform(self, statement: str, parameters: Mapping[str, Any], answer: Answer) -> None:
        """Execute a statement in its own time, whatever becomes of the process that sent it."""
        self.under_way += 1
        # A replica looks once a second how far the log has come, for as long as it lives.
        self.sent += statement not in (log_statements.STATUS.text, log_statements.WRITTEN.text)
        if statement in self._writes:
            work = self._writes[statement]
            fault = self._fate.at("write", work.__name__[1:])
            self._loop.create_task(
                self._perform(work, parameters, fault, answer), context=self._context
            )
        else:
            read = self._reads[statement]
            fault = self._fate.at("read", read.__name__[1:])
            seconds = self._fate.seconds("statement")
            self._loop.call_later(
                seconds, self._read, read, parameters, fault, answer, context=self._context
            )

    def _read(self, read: Read, parameters: Mapping[str, Any], fault: str, answer: Answer) -> None:
        self._may_die(fault, "database_dies_before")
        if self.disk.down or fault == "refused":
            self._answer(answer, failure(), 0.0)
        elif fault == "silent":
            self._answer(answer, failure(), _KEEPALIVE_SECONDS)
        else:
            self._answer(answer, read(parameters), 0.0)

    async def _perform(
        self, work: Write, parameters: Mapping[str, Any], fault: str, answer: Answer
    ) -> None:
        await self._pass("statement")
        self._may_die(fault, "database_dies_before")
        try:
            rows: Rows | Exception = await self._executed(work, parameters, fault)
        except DBAPIError as error:
            rows = error
        seconds = _KEEPALIVE_SECONDS if fault == "silent" else self._fate.seconds("statement")
        lost = fault in ("silent", "reply_lost", "unflushed", "database_dies_after")
        self._answer(answer, failure() if lost else rows, seconds)

    async def _executed(self, work: Write, parameters: Mapping[str, Any], fault: str) -> Rows:
        if self.disk.down or fault == "refused":
            raise failure()
        if fault == "deadlock":
            raise failure(DEADLOCK)
        rows = await work(parameters, fault)
        self._may_die(fault, "database_dies_after")
        return rows

    def _may_die(self, fault: str, when: str) -> None:
        if fault == when:
            self._die()

    def _answer(self, answer: Answer, rows: Rows | Exception, seconds: float) -> None:
        def answered() -> None:
            self.under_way -= 1
            answer(rows)

        self._loop.call_later(seconds, answered, context=self._context)

    async def _pass(self, what: str) -> None:
        await asyncio.sleep(self._fate.seconds(what))

    @asynccontextmanager
    async def _locked(
        self, keys: Iterable[Any], fault: str, timeout_seconds: float
    ) -> AsyncIterator[None]:
        """Hold rows from the statement to its commit, once nobody else does."""
        wanted, deaths = list(keys), self.disk.deaths
        deadline = self._loop.now + timeout_seconds
        while holders := [self._locks[key] for key in wanted if key in self._locks]:
            await asyncio.wait([holders[0]], timeout=max(0.0, deadline - self._loop.now))
            if not holders[0].done():
                raise failure(LOCK_TIMEOUT)
        released = self._loop.create_future()
        self._locks.update(dict.fromkeys(wanted, released))
        try:
            await self._pass("hangs" if fault in ("hangs", "fails_late") else "statement")
            if fault == "fails_late" or deaths != self.disk.deaths:
                raise failure()
            yield
        finally:
            for key in wanted:
                if self._locks.get(key) is released:
                    del self._locks[key]
            released.set_result(None)

    def _commit(self, transaction: LocalTransaction, fault: str, *, forced: bool) -> None:
        self.disk.commit(
            transaction.changes, flush=forced and transaction.wrote and fault != "unflushed"
        )
