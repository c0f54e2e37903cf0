"""What one run of the shop keeps under SHOP_DATA: data, logs, pids, secrets, two locks.

    postgres/       PostgreSQL's data, unless DATABASE_URL names a server
    logs/           a log per process; a run begins new ones and keeps those of the run before as *.log.previous
    run/            a pid file per process, and addresses.json: who listens where
    secrets.json    passwords and keys, made once; readable by its owner alone

Two runs on one folder would hand each other's processes out as their own, so a run holds
``run/lock`` while it lives. A run that was killed leaves children for a moment: they have inherited
``run/children.lock``, and the next run waits until all are gone.
"""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shop.project import CannotRun
from shop.topology import PACKAGES, PARTICIPANTS

ORPHANS_SECONDS = 10
_SECRETS = ("postgres", *PACKAGES, *(participant.key for participant in PARTICIPANTS))


class DataFolder:
    """The folder of one run."""

    def __init__(self, root: Path) -> None:
        """Describe the folder; ``prepare`` makes it."""
        try:
            self.root = root.expanduser().absolute()
        except RuntimeError:
            raise CannotRun(f"SHOP_DATA is {root}, and there is no such home folder") from None
        self.postgres = self.root / "postgres"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.gateway = self.root / "gateway"
        self._addresses = self.run / "addresses.json"
        self._secrets = self.root / "secrets.json"

    def prepare(self) -> None:
        """Make the folder and its parts; raises CannotRun."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.logs, self.run, self.gateway):
                part.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.run):
                pass
        except OSError as error:
            raise CannotRun(f"SHOP_DATA is {self.root}, and that cannot be used: {error}") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder inside the block; yields the descriptor that every child must inherit.

        Raises CannotRun.
        """
        with contextlib.ExitStack() as stack:
            mine = stack.enter_context(_lock_file(self.run / "lock"))
            if not _is_locked(mine):
                holder = os.pread(mine, 20, 0).decode()
                raise CannotRun(
                    f"a shop already runs on {self.root} (pid {holder}): stop it, or set another SHOP_DATA and SHOP_PORT"
                )
            os.ftruncate(mine, 0)
            os.pwrite(mine, str(os.getpid()).encode(), 0)
            inherited = stack.enter_context(_lock_file(self.run / "children.lock"))
            deadline = time.monotonic() + ORPHANS_SECONDS
            while not _is_locked(inherited):
                if time.monotonic() > deadline:
                    raise CannotRun(
                        f"processes of an earlier run on {self.root} still live: end them first"
                    )
                time.sleep(0.05)
            self._forget_earlier_run()
            stack.callback(self._addresses.unlink, missing_ok=True)
            yield inherited

    def log(self, name: str) -> Path:
        """Return where process ``name`` writes."""
        return self.logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 8) -> str:
        """Return the last lines that process ``name`` has written."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    def write_pid(self, name: str, pid: int) -> None:
        """Write the pid of process ``name``; a reader finds the old or the new one, never half."""
        _replace(self.run / f"{name}.pid", f"{pid}\n")

    def forget_pid(self, name: str) -> None:
        """Remove the pid of process ``name``, which does not run."""
        (self.run / f"{name}.pid").unlink(missing_ok=True)

    def write_addresses(self, addresses: object) -> None:
        """Tell tests and operators who listens where."""
        _replace(self._addresses, json.dumps(addresses, indent=2) + "\n")

    def addresses(self) -> dict[str, Any]:
        """Return what a run has told of who listens where.

        Raises FileNotFoundError if none runs.
        """
        return dict(json.loads(self._addresses.read_text()))

    @property
    def has_secrets(self) -> bool:
        """Return whether a shop has ever been started here."""
        return self._secrets.exists()

    def secrets(self) -> dict[str, str]:
        """Return the passwords and keys, which are made when they are first asked for."""
        path = self._secrets
        try:
            known = dict(json.loads(path.read_text())) if path.exists() else {}
        except ValueError:
            raise CannotRun(
                f"{path} is damaged: put it back from a copy, or begin with another SHOP_DATA"
            ) from None
        missing = {name: secrets.token_urlsafe(32) for name in _SECRETS if name not in known}
        if "database_suffix" not in known:
            missing["database_suffix"] = secrets.token_hex(4)
        if missing:
            _replace(path, json.dumps({**known, **missing}, indent=2) + "\n")
        return {**known, **missing}

    def _forget_earlier_run(self) -> None:
        for pid_file in self.run.glob("*.pid"):
            pid_file.unlink()
        self._addresses.unlink(missing_ok=True)
        for log in self.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.previous"))


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Lock the file unless another process has, and return whether we have it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, content: str) -> None:
    making = path.with_name(f".{path.name}.new")
    making.unlink(missing_ok=True)
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    making.replace(path)
