"""Virtual time: an event loop whose clock jumps to the next event, and which knows whose code it runs.

Everything that a process schedules carries the process's life in its context. What belongs to a
life that has ended is never run again, as after a SIGKILL; what belongs to a paused one waits, as
after a SIGSTOP; and nothing needs to know of either.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any

#: The life whose code is running; None for the world outside of all processes.
OWNER: ContextVar["Life | None"] = ContextVar("OWNER", default=None)


class ProcessDied(BaseException):
    """Unwinds the code of a process that dies at a crash point; nobody may catch it."""


class Life:
    """One life of a process, from a start to a death."""

    __slots__ = ("alive", "callers", "context", "held", "name", "paused", "service", "verbs")

    def __init__(self, name: str, service: str) -> None:
        self.name = name
        self.service = service
        self.alive = True
        self.paused = False
        #: What became due during a pause.
        self.held: list[Handle] = []
        #: What other processes can ask of this one.
        self.verbs: dict[str, Callable[..., Any]] = {}
        #: Who waits for an answer, and hears at once that the connection is gone if this life ends.
        self.callers: dict[int, Callable[[Any], None]] = {}
        self.context = copy_context()
        self.context.run(OWNER.set, self)


class Handle:
    """A callback that was scheduled, and can be cancelled."""

    __slots__ = ("args", "callback", "context")

    def __init__(
        self, callback: Callable[..., Any] | None, args: tuple[Any, ...], context: Context
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context

    def cancel(self) -> None:
        """Never run it."""
        self.callback = None

    def cancelled(self) -> bool:
        """Return whether it will never run."""
        return self.callback is None


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs what is due in the order in which it was scheduled, and lets time pass only when nothing is."""

    def __init__(self, start_seconds: float) -> None:
        self.now = start_seconds
        self.broken: list[str] = []
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._sequence = 0
        self._over = False
        # Kept to the end, because a task that is collected runs its ``finally`` blocks: a dead
        # process must not.
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self, main: Coroutine[Any, Any, Any]) -> None:
        """Run until ``main`` is done."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            task.result()
        finally:
            self._bury()
            asyncio._set_running_loop(None)

    def _bury(self) -> None:
        """End all that is left, the dead and the living, so that nothing of it runs when it is collected."""
        self._over = True
        for task in self._tasks:
            if not task.done():
                _close(task.get_coro())
        self._tasks.clear()
        self._timers.clear()
        self._ready.clear()

    def _step(self) -> None:
        if self._ready:
            handle = self._ready.popleft()
        else:
            when, _, handle = heapq.heappop(self._timers)
            if handle.callback is None:
                return
            self.now = max(self.now, when)
        if handle.callback is None:
            return
        owner = handle.context.get(OWNER)
        if owner is not None:
            if not owner.alive:
                return
            if owner.paused:
                owner.held.append(handle)
                return
        try:  # noqa: SIM105 - the innermost loop of every run
            handle.context.run(handle.callback, *handle.args)
        except ProcessDied:
            pass

    def wake(self, life: Life) -> None:
        """Let a paused life go on, with all that became due meanwhile."""
        life.paused = False
        self._ready.extend(life.held)
        life.held = []

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        """Schedule a callback behind all that is due."""
        handle = Handle(callback, args, context if context is not None else copy_context())
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        """Schedule a callback for a time."""
        handle = Handle(callback, args, context if context is not None else copy_context())
        if not self._over:
            self._sequence += 1
            heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        """Schedule a callback for ``delay`` seconds from now."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a coroutine."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined] # dead processes leave their tasks pending
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Hand blocking work to a simulated executor."""
        assert not args
        return executor.begin(func)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what nobody has handled, unless he is dead."""
        if not self._over:
            self.broken.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """Return False: asyncio's own debugging reads the real clock."""
        return False

    def is_running(self) -> bool:
        """Return whether the run has not ended."""
        return not self._over

    def is_closed(self) -> bool:
        """Return whether the run has ended."""
        return self._over


def _close(coroutine: Any) -> None:
    # A task group waits for its tasks even now, so it has to be told twice.
    for _ in range(3):
        with suppress(BaseException):
            coroutine.close()
            return
