"""Keeps the shop's processes running until it is told to stop, and then stops them in the reverse order of their start.

There is one thread and one loop. A signal only sets a flag; every wait is a ``pause``, which
restarts what has died and ends the run if the flag is set. So a stop is obeyed at any moment, also
in the middle of the start.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

from shop.local.data_folder import DataFolder
from shop.local.program import Program
from shop.project import CannotRun

TICK_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 1.0
#: Who lives so long is well: if it dies after that, it is started again at once.
WELL_AFTER_SECONDS = 5.0


class Stopping(BaseException):
    """The run was asked to end."""


@dataclass
class _Child:
    """A program that should always run, and what became of it so far."""

    program: Program
    before_start: Callable[[], None]
    process: subprocess.Popen[bytes]
    started_at: float
    deaths: int = 0
    due_at: float | None = field(default=None)
    #: Its pid file could not be written yet.
    is_untold: bool = False
    #: Why it could not be started the last time, as the user was told.
    complaint: str = ""

    def delay(self, now: float) -> float:
        """Return how long to wait after this death.

        The first is repaired at once, then the wait doubles up to a second.
        """
        self.deaths = 1 if now - self.started_at > WELL_AFTER_SECONDS else self.deaths + 1
        return 0.0 if self.deaths == 1 else min(BACKOFF_SECONDS_MAX, 0.05 * 2**self.deaths)


class Supervisor:
    """The processes of one run."""

    def __init__(self, data: DataFolder, inherited: int, say: Callable[[str], None]) -> None:
        """Supervise nothing yet; each child inherits the descriptor ``inherited``, and ``say`` tells the user what happens."""
        self._data = data
        self._inherited = inherited
        self._say = say
        self._groups: list[tuple[float, list[_Child]]] = []
        self._asked_to_stop = False

    @contextlib.contextmanager
    def obeying_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and the end of the terminal as the wish to stop.

        Stop everything at the end of the block.
        """

        def obey(_number: int, _frame: FrameType | None) -> None:
            self._asked_to_stop = True

        before = {
            number: signal.getsignal(number)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        for number, handler in before.items():
            # Under nohup the end of the terminal is no wish to stop.
            if not (number == signal.SIGHUP and handler == signal.SIG_IGN):
                signal.signal(number, obey)
        try:
            yield
        except Stopping:
            self._say("stopping")
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def keep(
        self,
        *programs: Program,
        seconds_to_stop: float,
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        """Start ``programs`` as a group and keep them running.

        At the end the group has ``seconds_to_stop``.
        """
        group: list[_Child] = []
        self._groups.append((seconds_to_stop, group))
        for program in programs:
            before_start()
            child = _Child(program, before_start, self._start(program), time.monotonic())
            group.append(child)
            self._tell_pid(child)

    def run_to_end(self, *programs: Program) -> None:
        """Run ``programs`` side by side until all have ended.

        Raises CannotRun if one has failed.
        """
        running: list[tuple[Program, subprocess.Popen[bytes]]] = []
        try:
            for program in programs:
                with self._data.log(program.name).open("ab") as log:
                    running.append((program, program.start(log, (self._inherited,))))
            while any(process.poll() is None for _, process in running):
                self.pause()
        finally:
            for _, process in running:
                process.kill()
                process.wait()
        for program, process in running:
            if process.returncode:
                raise CannotRun(f"{program.name} failed:\n{self._data.log_tail(program.name)}")

    def pause(self, seconds: float = TICK_SECONDS) -> None:
        """Let time pass, and start again what has died meanwhile; raises Stopping."""
        until = time.monotonic() + seconds
        while True:
            if self._asked_to_stop:
                raise Stopping
            for _, group in self._groups:
                for child in group:
                    self._tend(child)
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, TICK_SECONDS))

    def wait_until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Pause until ``is_so``, at most for ``seconds``; returns whether it came to be so."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                return False
            self.pause()
        return True

    def _tend(self, child: _Child) -> None:
        now, name = time.monotonic(), child.program.name
        if child.due_at is None and child.process.poll() is not None:
            self._forget_pid(child)
            if child.process.returncode in child.program.hopeless_codes:
                raise CannotRun(f"{name} cannot run as it is set:\n{self._data.log_tail(name)}")
            self._say(f"{name} {_end_of(child.process)} and is started again")
            child.due_at = now + child.delay(now)
        if child.due_at is not None and now >= child.due_at:
            self._start_again(child, now)
        if child.is_untold:
            self._tell_pid(child)

    def _start_again(self, child: _Child, now: float) -> None:
        """Start it, or try again a little later.

        A full disk or too many processes are no reason to end all others.
        """
        try:
            child.before_start()
            child.process = self._start(child.program)
        except OSError as error:
            if str(error) != child.complaint:
                self._say(
                    f"{child.program.name} cannot be started ({error}): it is tried again every second"
                )
            child.complaint, child.due_at = str(error), now + BACKOFF_SECONDS_MAX
            return
        child.started_at, child.due_at, child.is_untold, child.complaint = now, None, True, ""

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        with self._data.log(program.name).open("ab") as log:
            return program.start(log, (self._inherited,))

    def _tell_pid(self, child: _Child) -> None:
        """Write its pid file; on a full disk that has to wait, and the process need not."""
        try:
            self._data.write_pid(child.program.name, child.process.pid)
        except OSError:
            child.is_untold = True
        else:
            child.is_untold = False

    def _forget_pid(self, child: _Child) -> None:
        child.is_untold = False
        with contextlib.suppress(OSError):
            self._data.forget_pid(child.program.name)

    def _stop(self) -> None:
        for seconds, group in reversed(self._groups):
            _stop_group([child for child in group if child.process.poll() is None], seconds)
            for child in group:
                self._forget_pid(child)
        self._groups.clear()


def _stop_group(children: Sequence[_Child], seconds: float) -> None:
    """Ask all to stop, and end those that have not stopped in time."""
    deadline = time.monotonic() + seconds
    for child in children:
        child.process.send_signal(child.program.stop_signal)
        # A process that somebody has paused would not hear it.
        child.process.send_signal(signal.SIGCONT)
    for child in children:
        for last_signal in (child.program.last_signal, signal.SIGKILL):
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.send_signal(last_signal)
                deadline = max(deadline, time.monotonic() + 0.3)
        child.process.wait()


def _end_of(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return (
        f"was killed by {signal.Signals(-code).name}"
        if code < 0
        else f"ended with exit code {code}"
    )
