"""Starts child processes of the shop: a session of their own, never outliving the shop.

A session of its own keeps Ctrl-C in a terminal away from the children: who stops when is the
supervisor's decision. If the supervisor itself is killed, the kernel sends every child its
``last_signal``. To the kernel the parent is the thread that has started the child: start programs
from a thread that stays, as the main thread does.
"""

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from shop.project import ROOT, CannotRun

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Account:
    """The account that a process runs as, if not ours."""

    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the account called ``name``."""
        entry = pwd.getpwnam(name)
        return cls(entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A command, and how it is run and ended."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path = ROOT
    account: Account | None = None
    descriptors: tuple[int, ...] = ()
    #: It ends with one of these where it would end so again: it is not started again, and the run
    #: ends with its last words.
    hopeless_codes: frozenset[int] = frozenset()
    #: Asks it to stop, and lets it finish what is under way.
    stop_signal: signal.Signals = signal.SIGTERM
    #: Ends it when there is no time for that.
    last_signal: signal.Signals = signal.SIGKILL

    def start(self, output: int | IO[bytes], also: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start it and return at once; it inherits the descriptors in ``also`` too."""
        account = self.account
        return subprocess.Popen(  # noqa: S603 - our own commands
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=dict(self.environment),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            pass_fds=(*self.descriptors, *also),
            start_new_session=True,
            preexec_fn=_dying_with(os.getpid(), self.last_signal),  # noqa: PLW1509 - two system calls, no locks
        )


def run_to_end(program: Program) -> None:
    """Run ``program`` and return when it has succeeded; raises CannotRun with what it said."""
    process = program.start(subprocess.PIPE)
    said = process.communicate()[0].decode(errors="replace")
    if process.returncode:
        raise CannotRun(f"{program.name} failed:\n{said.strip()}")


def _dying_with(parent: int, last_signal: signal.Signals) -> Callable[[], None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def promise() -> None:
        prctl(_PR_SET_PDEATHSIG, int(last_signal))
        # Had the parent died before the call above, nobody would ever send the signal.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return promise
