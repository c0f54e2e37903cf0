"""What a measurement costs the machine.

Processor time and memory per process from /proc, forced writes from PostgreSQL.
"""

import os
from pathlib import Path

import psycopg2

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: PostgreSQL 18 counts flushes of its log together with all other I/O.
_FORCED_WRITES = (
    (18, "SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'"),
    (14, "SELECT wal_sync FROM pg_stat_wal"),
)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process with its threads."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def cpu_seconds_of_family(pid: int) -> float:
    """Return the processor time of a process with all its children, also of those that have ended."""
    # The children first: one that ends meanwhile is its parent's by then.
    running = sum(_of_child(child) for child in children(pid))
    fields = _stat(pid)
    ended = (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND
    return cpu_seconds(pid) + ended + running


def _of_child(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if int(_stat(int(each.name))[1]) == pid:
                found.append(int(each.name))
        except OSError:
            continue
    return found


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process in megabytes (10^6 bytes)."""
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1]) * 1024 / 1e6


def proportional_mb_of_family(pid: int) -> float:
    """Return the memory of a process with all its children in megabytes.

    What they share is counted once.
    """
    return sum(_proportional_mb(each) for each in [pid, *children(pid)])


def _proportional_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def _stat(pid: int) -> list[str]:
    # The name of the program may have spaces and parentheses; the fields begin behind it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Server:
    """The PostgreSQL that all systems share."""

    def __init__(self, dsn: str, pid: int) -> None:
        self.dsn = dsn
        self.pid = pid
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True
        self.version: str = self.value("SHOW server_version")
        major = int(self.version.split(".")[0])
        self._forced_writes = next(query for least, query in _FORCED_WRITES if major >= least)

    def value(self, query: str) -> str:
        """Return the single value of a query, as text."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        assert row is not None
        return str(row[0])

    def run(self, script: str) -> None:
        """Run a script of SQL."""
        with self._connection.cursor() as cursor:
            cursor.execute(script)

    def forced_writes(self) -> int:
        """Return how often the log was flushed to the disk.

        Backends report with a second's delay.
        """
        return int(self.value(self._forced_writes))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
