"""The supervisor: what dies comes back, at once and then with patience.

What must stop stops, in order and in time.
"""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shop.local.data_folder import DataFolder
from shop.local.program import Program
from shop.local.supervisor import TICK_SECONDS, WELL_AFTER_SECONDS, Stopping, Supervisor
from shop.project import CannotRun

SLEEPER = "import time; time.sleep(60)"
#: Says in its log when it was asked to stop.
POLITE = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print(time.monotonic()), sys.exit()));"
    "sys.stdout.write('up\\n'); sys.stdout.flush(); time.sleep(60)"
)
#: Has heard of no signal but the one that nobody can ignore.
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """Return a prepared folder."""
    folder = DataFolder(tmp_path / "data")
    folder.prepare()
    return folder


@pytest.fixture
def said() -> list[str]:
    """Return what the supervisor has told its user."""
    return []


@pytest.fixture
def supervisor(data: DataFolder, said: list[str]) -> Iterator[Supervisor]:
    """Return a supervisor that obeys signals, and stops everything in the end."""
    with data.locked() as inherited:
        made = Supervisor(data, inherited, said.append)
        with made.obeying_signals():
            yield made


def _program(name: str, code: str) -> Program:
    return Program(name=name, command=(sys.executable, "-c", code), environment=dict(os.environ))


def _pid(data: DataFolder, name: str) -> int:
    return int((data.run / f"{name}.pid").read_text())


def _is_up(data: DataFolder, name: str) -> Callable[[], bool]:
    return lambda: "up" in data.log_tail(name)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


def test_process_that_dies_is_started_again_at_once_and_its_pid_file_follows(
    supervisor: Supervisor, data: DataFolder, said: list[str]
) -> None:
    """Whoever reads the pid file finds a process that runs."""
    supervisor.keep(_program("order", SLEEPER), seconds_to_stop=1)
    first = _pid(data, "order")
    os.kill(first, signal.SIGKILL)

    supervisor.pause(0.3)

    second = _pid(data, "order")
    assert second != first
    assert _lives(second)
    assert said == ["order was killed by SIGKILL and is started again"]


def test_process_that_keeps_dying_is_started_again_with_patience(
    supervisor: Supervisor, data: DataFolder
) -> None:
    """At once at first, then after longer and longer waits.

    A service without its database must not eat the processor.
    """
    program = _program("order", "import time; print(time.monotonic(), flush=True)")
    supervisor.keep(program, seconds_to_stop=1)
    supervisor.pause(3)

    starts = [float(line) for line in data.log("order").read_text().split()]
    waits = [later - sooner for sooner, later in itertools.pairwise(starts)]
    assert waits[0] < 0.6
    assert 3 <= len(starts) <= 7
    assert waits[-1] > 2 * TICK_SECONDS


def test_wait_before_a_start_is_never_longer_than_a_second(supervisor: Supervisor) -> None:
    """However often it has died, it is soon given another chance.

    One that has lived well gets it at once.
    """
    supervisor.keep(_program("order", SLEEPER), seconds_to_stop=1)
    child = supervisor._groups[0][1][0]

    waits = [child.delay(child.started_at + 0.1) for _ in range(20)]

    assert waits[0] == 0
    assert waits == sorted(waits)
    assert max(waits) == 1
    assert child.delay(child.started_at + WELL_AFTER_SECONDS + 1) == 0


def test_groups_stop_in_the_reverse_order_of_their_start(
    supervisor: Supervisor, data: DataFolder
) -> None:
    """The gateway goes before the services and the database goes last.

    Nobody is asked what it cannot answer any more.
    """
    names = ("first", "second", "third")
    for name in names:
        supervisor.keep(_program(name, POLITE), seconds_to_stop=2)
        assert supervisor.wait_until(_is_up(data, name), 5)

    supervisor._stop()

    stopped = [float(data.log_tail(name).splitlines()[-1]) for name in names]
    assert stopped == sorted(stopped, reverse=True)
    assert not list(data.run.glob("*.pid"))


@pytest.mark.parametrize("pause", [False, True], ids=["deaf", "paused"])
def test_process_that_does_not_stop_is_ended_in_time(
    supervisor: Supervisor, data: DataFolder, *, pause: bool
) -> None:
    """Neither a process that ignores the signal nor one that somebody has paused keeps the shop from stopping."""
    supervisor.keep(_program("order", POLITE if pause else DEAF), seconds_to_stop=0.5)
    assert supervisor.wait_until(_is_up(data, "order"), 5)
    pid = _pid(data, "order")
    if pause:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()

    supervisor._stop()

    assert not _lives(pid)
    assert time.monotonic() - began < 1.5


@pytest.fixture
def obeyed(number: signal.Signals) -> Iterator[object]:
    """Return the signal's handler.

    Not that of nohup, under which these tests may run, and which the shop would respect.
    """
    before = signal.signal(number, signal.default_int_handler)
    yield signal.getsignal(number)
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_run_at_any_moment(
    data: DataFolder, said: list[str], number: signal.Signals, obeyed: object
) -> None:
    """Also in the middle of the start, while a migration runs.

    Everything is stopped, and nothing is left.
    """
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    with data.locked() as inherited:
        supervisor = Supervisor(data, inherited, said.append)
        with supervisor.obeying_signals():
            supervisor.keep(_program("postgres", SLEEPER), seconds_to_stop=1)
            pid = _pid(data, "postgres")
            timer.start()
            supervisor.run_to_end(_program("migrate", SLEEPER))
            pytest.fail("the migration ended")

    assert said == ["stopping"]
    assert not _lives(pid)
    assert signal.getsignal(number) is obeyed


def test_step_that_fails_is_told_with_what_it_said(supervisor: Supervisor) -> None:
    """A migration that fails ends the start, and the user sees why without looking for the log."""
    failing = _program("migrate-order", "import sys; print('no such column'); sys.exit(1)")

    with pytest.raises(CannotRun, match="migrate-order failed:\nno such column"):
        supervisor.run_to_end(_program("migrate-stock", "pass"), failing)


def test_no_child_outlives_a_supervisor_that_is_killed(data: DataFolder) -> None:
    """The next run finds free ports and an unlocked folder."""
    code = (
        "import sys; from pathlib import Path; from shop.local.data_folder import DataFolder; from shop.local.program import Program;"
        "from shop.local.supervisor import Supervisor; data = DataFolder(Path(sys.argv[1])); lock = data.locked();"
        "s = Supervisor(data, lock.__enter__(), print);"
        "s.keep(Program(name='order', command=('sleep', '60'), environment={'PATH': '/usr/bin:/bin'}), seconds_to_stop=1);"
        "print('kept', flush=True); s.pause(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(data.root)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "kept\n"
        pid = _pid(data, "order")
        parent.kill()

    with data.locked():
        assert not _lives(pid)


def test_wait_is_over_as_soon_as_a_stop_is_asked_for(supervisor: Supervisor) -> None:
    """Nobody waits for the end of a long wait."""
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()

    with pytest.raises(Stopping):
        supervisor.pause(30)

    assert time.monotonic() - began < 1
