"""The supervisor where a start fails.

A full disk is waited for, and a child that can never run ends the run with its words.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.needs import needed
from shop.local.data_folder import DataFolder
from shop.local.program import Program
from shop.local.supervisor import Supervisor
from shop.project import CannotRun

SLEEPER = "import time; time.sleep(60)"


@pytest.fixture
def said() -> list[str]:
    """Return what the supervisor has told its user."""
    return []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[DataFolder]:
    """Return a prepared folder on a disk of its own, which is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    needed(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        "a small disk must be mounted",
    )
    data = DataFolder(disk / "data")
    data.prepare()
    try:
        yield data
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def supervisor(small: DataFolder, said: list[str]) -> Iterator[Supervisor]:
    """Return a supervisor on the small disk, which stops everything in the end."""
    with small.locked() as inherited:
        made = Supervisor(small, inherited, said.append)
        with made.obeying_signals():
            yield made


def _fill(folder: Path) -> None:
    with (folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def _program(name: str, code: str, *hopeless: int) -> Program:
    command = (sys.executable, "-c", code)
    return Program(
        name=name, command=command, environment=dict(os.environ), hopeless_codes=frozenset(hopeless)
    )


def _pid(data: DataFolder, name: str) -> int:
    try:
        return int((data.run / f"{name}.pid").read_text())
    except FileNotFoundError:
        return 0


def _until(supervisor: Supervisor, is_so: Callable[[], bool]) -> None:
    assert supervisor.wait_until(is_so, 10)


def _process(supervisor: Supervisor, group: int) -> "subprocess.Popen[bytes]":
    return supervisor._groups[group][1][0].process


@pytest.mark.parametrize("log", ["kept", "lost"])
def test_full_disk_while_a_child_is_restarted_does_not_end_the_others(
    supervisor: Supervisor, small: DataFolder, said: list[str], log: str
) -> None:
    """The child is started, or it is tried again; its pid file follows as soon as there is space.

    The other lives on.
    """
    supervisor.keep(_program("postgres", SLEEPER), seconds_to_stop=1)
    # What a process leaves free when it dies is taken by another at once.
    supervisor.keep(_program("order", SLEEPER), seconds_to_stop=1)
    supervisor._groups[1][1][0].before_start = lambda: _fill(small.root)
    other, killed = _pid(small, "postgres"), _pid(small, "order")
    if log == "lost":
        small.log("order").unlink()
        small.log("order").symlink_to(small.root / "nowhere" / "order.log")
    os.kill(killed, signal.SIGKILL)
    supervisor.pause(1)
    assert (_process(supervisor, 1).poll() is None) == (log == "kept")
    assert _pid(small, "order") == 0
    (small.root / "filler").unlink()
    if log == "lost":
        small.log("order").unlink()
        supervisor._groups[1][1][0].before_start = lambda: None

    _until(supervisor, lambda: _pid(small, "order") == _process(supervisor, 1).pid != killed)

    assert Path(f"/proc/{_pid(small, 'order')}/exe").exists()
    assert _process(supervisor, 0).pid == other
    assert _process(supervisor, 0).poll() is None
    assert len([line for line in said if "it is tried again every second" in line]) == (
        log == "lost"
    )


@pytest.mark.parametrize("dies", ["at once", "later"])
def test_child_that_can_never_run_ends_the_run_with_its_words(
    supervisor: Supervisor, dies: str
) -> None:
    """A wrong setting is not tried for a minute.

    The user reads the sentence that the child has said.
    """
    sentence = "LOG_FORMAT: Input should be 'json' or 'console'"
    wait = "import time; time.sleep(0.5);" if dies == "later" else ""
    began = time.monotonic()
    supervisor.keep(
        _program("order", f"import sys; {wait} print({sentence!r}); sys.exit(2)", 2, 3),
        seconds_to_stop=1,
    )

    with pytest.raises(CannotRun, match="order cannot run as it is set:\n" + sentence):
        supervisor.pause(30)

    assert time.monotonic() - began < 20


def test_same_exit_code_of_a_child_that_does_not_mean_that_is_a_death_like_any(
    supervisor: Supervisor, said: list[str]
) -> None:
    """PostgreSQL and Caddy end with 2 for other reasons."""
    supervisor.keep(_program("gateway", "import sys; sys.exit(2)"), seconds_to_stop=1)

    supervisor.pause(1)

    assert "gateway ended with exit code 2 and is started again" in said
