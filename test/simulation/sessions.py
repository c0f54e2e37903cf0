"""Blocking database code in virtual time, without threads.

The real decision log and the real claims run in worker threads, and block at every statement. Here
such a piece of work is run until it needs a statement that has no answer yet; then it is left, the
statement takes its time, and the work is run again from its start with the answers known so far. So
any number of them interleave at every statement, and all in one thread. It rests on two things: the
work depends on its statements alone, and does nothing else.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Protocol

from sqlalchemy.exc import OperationalError


class _Suspended(BaseException):
    def __init__(self, statement: str, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.statement = statement
        self.parameters = parameters


class DatabaseError(Exception):
    """What the driver raises, with PostgreSQL's code or none."""

    def __init__(self, pgcode: str | None) -> None:
        super().__init__(pgcode)
        self.pgcode = pgcode


def failure(pgcode: str | None = None) -> OperationalError:
    """Return the error as SQLAlchemy reports it; without a code the connection was lost."""
    return OperationalError("statement", {}, DatabaseError(pgcode))


class Rows(list[Any]):
    """The rows that a statement returned, as far as the code reads them."""

    def scalars(self) -> list[Any]:
        """Return the first column."""
        return [row[0] for row in self]

    def scalar_one(self) -> Any:
        """Return the only value."""
        assert len(self) == 1
        return self[0][0]

    def scalar_one_or_none(self) -> Any:
        """Return the only value, if there is one."""
        assert len(self) <= 1
        return self[0][0] if self else None

    def all(self) -> "Rows":
        """Return all rows."""
        return self

    def one(self) -> Any:
        """Return the only row."""
        assert len(self) == 1
        return self[0]

    def one_or_none(self) -> Any:
        """Return the only row, if there is one."""
        assert len(self) <= 1
        return self[0] if self else None


class _Cursor:
    """The driver's way to a statement that was planned before; planning it takes no time."""

    def __init__(self, session: "_Session") -> None:
        self._session = session
        self._rows = Rows()
        self.description = "whatever it returns"

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Keep a statement's rows, if they are known by now."""
        if parameters is not None:
            self._rows = self._session.answer_to(statement, parameters)

    def fetchall(self) -> Rows:
        """Return the rows of the last statement."""
        return self._rows


class Server(Protocol):
    """The database at the other end."""

    def perform(
        self,
        statement: str,
        parameters: Mapping[str, Any],
        answer: Callable[[Rows | Exception], None],
    ) -> None:
        """Execute a statement in its own time, and answer; or never answer."""
        ...


class Sessions:
    """Stands for an SQLAlchemy engine and for the executor in which its blocking work runs."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self._running: _Session | None = None

    @contextmanager
    def connect(self) -> "Iterator[_Session]":
        """Return the connection of the work that is running."""
        assert self._running is not None
        yield self._running

    def begin(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Start blocking work and return the future of its result, as ``run_in_executor`` does."""
        session = _Session(self, work)
        session.proceed()
        return session.result

    def sleep(self, seconds: float) -> None:
        """Stand for ``time.sleep`` in blocking work."""
        assert self._running is not None
        self._running.sleep(seconds)

    def proceed(self, session: "_Session", work: Callable[[], Any]) -> Any:
        """Run ``work`` with ``session`` as its connection."""
        self._running = session
        try:
            return work()
        finally:
            self._running = None


class _Session:
    """One piece of work, and the answers that it has got so far."""

    def __init__(self, sessions: Sessions, work: Callable[[], Any]) -> None:
        self.result = sessions.loop.create_future()
        self._sessions = sessions
        self._work = work
        self._answers: list[Rows | Exception] = []
        self._position = 0
        #: As in SQLAlchemy: what is kept with the driver's connection, which is the session itself.
        self.info: dict[Any, Any] = {}
        self.connection = self
        # The process that asked: if it is dead or paused when an answer comes, the work does not go
        # on.
        self._context = copy_context()

    def proceed(self) -> None:
        """Run the work as far as its answers reach."""
        self._position = 0
        try:
            value = self._sessions.proceed(self, self._work)
        except _Suspended as suspended:
            if suspended.statement == "sleep":
                self._sessions.loop.call_later(
                    suspended.parameters["seconds"], self._answered, Rows()
                )
            else:
                self._sessions.server.perform(
                    suspended.statement, suspended.parameters, self._answered
                )
        except Exception as error:
            if not self.result.done():
                self.result.set_exception(error)
        else:
            if not self.result.done():
                self.result.set_result(value)

    def _answered(self, answer: Rows | Exception) -> None:
        self._answers.append(answer)
        self._sessions.loop.call_soon(self.proceed, context=self._context)

    def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return a statement's rows, if they are known by now."""
        return self.answer_to(statement.text, parameters or {})

    def cursor(self) -> _Cursor:
        """Return a way past SQLAlchemy."""
        return _Cursor(self)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.answer_to("sleep", {"seconds": seconds})

    def answer_to(self, statement: str, parameters: Mapping[str, Any]) -> Rows:
        """Return the rows, or raise what came instead, if it is known by now."""
        if self._position == len(self._answers):
            raise _Suspended(statement, parameters)
        answer = self._answers[self._position]
        self._position += 1
        if isinstance(answer, Exception):
            raise answer
        return answer
