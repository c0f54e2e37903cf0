"""A real PostgreSQL of our own on the loopback interface, kept from run to run.

The server is a plain child process in the foreground, so its pid is the postmaster's and anybody
may supervise it.

It is told its data folder as an open descriptor, ``/proc/self/fd/N``. Run by root, PostgreSQL must
work as another account, and that account may own the data and still not be allowed into the folders
above (a clone under /root, for one). A path through an open descriptor needs no permission on the
way, so the data can stay where the rest of the shop's data is.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sqlalchemy import URL
from sqlalchemy.exc import OperationalError

from shop.local import environment
from shop.local.database import connected
from shop.local.ports import LOOPBACK
from shop.local.postgres_binaries import Binaries
from shop.local.program import Account, Program, run_to_end
from shop.project import CannotRun

ADMIN = "postgres"
START_SECONDS = 60

#: What the shop cannot do without is said here, so that no configuration file can say otherwise.
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "listen_addresses": LOOPBACK,
    # A path to a socket may have 107 characters, and folders have more: there is no socket but the
    # one on the loopback.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}


def account_for(folder: Path) -> Account | None:
    """Return the account for PostgreSQL on ``folder``: as root its owner, at first `nobody`."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        owner = folder.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
    return Account.named("nobody")


def major_of(folder: Path) -> int | None:
    """Return the PostgreSQL version whose data ``folder`` has, if it has any."""
    with contextlib.suppress(FileNotFoundError):
        return int((folder / "PG_VERSION").read_text().split(".")[0])
    return None


class Postgres:
    """One PostgreSQL server: ``create``, ``start``, ``stop``, or ``program`` for a supervisor."""

    def __init__(self, binaries: Binaries, folder: Path, port: int, password: str) -> None:
        """Describe the server whose data is in ``folder``; nothing is done yet.

        ``password`` is the superuser's.
        """
        self.binaries = binaries
        self.folder = folder
        self.port = port
        self._password = password
        self._descriptor: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the postmaster's pid, if ``start`` has started one."""
        return self._process.pid if self._process else None

    def url(
        self, database: str = "postgres", role: str = ADMIN, password: str | None = None
    ) -> URL:
        """Return the address of ``database`` for ``role``."""
        return URL.create(
            "postgresql+psycopg2", role, password or self._password, LOOPBACK, self.port, database
        )

    def create(self, run: Callable[[Program], None] = run_to_end) -> None:
        """Make the data folder unless it is there.

        What was begun and not finished is begun again.
        """
        if self.folder.exists():
            return
        making = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700, parents=True)
        account = account_for(making)
        if account:
            os.chown(making, account.uid, account.gid)
        with _opened(making) as descriptor, tempfile.TemporaryFile() as secret:
            secret.write(self._password.encode())
            secret.flush()
            if account:
                os.fchown(secret.fileno(), account.uid, account.gid)
            run(self._initdb(descriptor, secret.fileno(), account))
        making.rename(self.folder)

    def program(self) -> Program:
        """Return the server as a program for a supervisor, which calls ``forget_stale_lock`` before each start."""
        if self._descriptor is None:
            self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        settings = {**_SETTINGS, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=(
                str(self.binaries.folder / "postgres"),
                "-D",
                f"/proc/self/fd/{self._descriptor}",
                *options,
            ),
            environment=environment.of_a_postgresql_tool(),
            folder=Path("/"),
            account=account_for(self.folder),
            descriptors=(self._descriptor,),
            stop_signal=signal.SIGINT,
            last_signal=signal.SIGQUIT,
        )

    def forget_stale_lock(self) -> None:
        """Remove the lock file of a server that was killed, if its pid has gone to another process by now.

        PostgreSQL sees for itself that a pid is gone, but takes any living process of its own
        account for a server. Children that a killed server has left are not missed by this: they
        hold its shared memory, and PostgreSQL looks there too.
        """
        lock = self.folder / "postmaster.pid"
        try:
            pid = int(lock.read_text().split()[0])
            works_here = Path(f"/proc/{pid}/cwd").samefile(self.folder)
        except (FileNotFoundError, PermissionError, ValueError, IndexError):
            return
        if not works_here:
            lock.unlink(missing_ok=True)

    def start(self, log: Path | None = None) -> None:
        """Start the server and return when it answers; raises CannotRun."""
        program = self.program()
        self.forget_stale_lock()
        with (log or Path(os.devnull)).open("ab") as output:
            self._process = program.start(output)
        deadline = time.monotonic() + START_SECONDS
        while not self.is_answering():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop("immediate")
                raise CannotRun(f"PostgreSQL did not start; see {log}")
            time.sleep(0.02)

    def stop(self, mode: Literal["smart", "fast", "immediate", "kill"] = "fast") -> None:
        """Stop the server and return when it is gone.

        `immediate` and `kill` leave it to recover at the next start.
        """
        if self._process:
            self._process.send_signal(_STOP_SIGNALS[mode])
            self._process.wait()
            self._process = None

    def is_answering(self) -> bool:
        """Return whether the server takes connections.

        Raises CannotRun if it will never take ours.
        """
        try:
            connected(self.url()).close()
        except OperationalError as error:
            if "authentication failed" in str(error):
                raise CannotRun(
                    f"the data in {self.folder} has another password than ours: its secrets.json is lost"
                ) from None
            return False
        return True

    def _initdb(self, folder: int, secret: int, account: Account | None) -> Program:
        options = ("--auth=scram-sha-256", "--no-locale", "--encoding=UTF8", f"--username={ADMIN}")
        return Program(
            name="initdb",
            command=(
                *_named(account.uid if account else os.geteuid()),
                str(self.binaries.folder / "initdb"),
                f"--pgdata=/proc/self/fd/{folder}",
                f"--pwfile=/proc/self/fd/{secret}",
                *options,
            ),
            environment=environment.of_a_postgresql_tool(),
            folder=Path("/"),
            account=account,
            descriptors=(folder, secret),
        )


def _named(uid: int) -> tuple[str, ...]:
    """Return what a command must begin with so that the user ``uid`` has a name in it.

    Raises CannotRun.

    initdb does nothing without one, though it is told the name of the superuser; containers often
    run as a mere number.
    """
    with contextlib.suppress(KeyError):
        pwd.getpwuid(uid)
        return ()
    nobody = Account.named("nobody")
    renamed = ("unshare", "--user", f"--map-user={nobody.uid}", f"--map-group={nobody.gid}")
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*renamed, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - our own command
            return renamed
    raise CannotRun(
        f"PostgreSQL's initdb needs a name for the user {uid}, who has none here: add a line to /etc/passwd, or set DATABASE_URL"
    )


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
