"""Rows in memory, and how much of them a crash would leave.

A commit is visible at once; a flush makes it, and everything committed before it, survive. A crash
takes back what was not flushed, or a part of it: the newest first, as a write-ahead log does.
"""

from collections.abc import Callable
from typing import Any

_MISSING: Any = object()

#: What a transaction changed: table, key, and the row before (or nothing).
Change = tuple[str, Any, Any]


class Disk:
    """One database's tables; rows are never changed in place, only replaced."""

    def __init__(self, name: str, tables: tuple[str, ...]) -> None:
        self.name = name
        self.tables: dict[str, dict[Any, Any]] = {table: {} for table in tables}
        self.down = False
        #: How far its clock is ahead; clocks are patience, never safety.
        self.clock_ahead_seconds = 0.0
        #: Counts deaths: who waits for something here compares it.
        self.deaths = 0
        #: Called with each transaction when it has become visible.
        self.watch: Callable[[list[Change]], None] = lambda _changes: None
        self._unflushed: list[list[Change]] = []

    def commit(self, changes: list[Change], *, flush: bool) -> None:
        """Make a transaction visible and, if ``flush``, durable with everything before it."""
        if changes:
            self._unflushed.append(changes)
        if flush:
            self._unflushed.clear()
        if changes:
            self.watch(changes)

    def flush(self) -> None:
        """Make everything that was committed durable."""
        self._unflushed.clear()

    @property
    def unflushed(self) -> int:
        """How many transactions a crash may take back."""
        return len(self._unflushed)

    def die(self, survivors: int) -> None:
        """Lose what was not flushed, apart from the first so many transactions."""
        self.down = True
        self.deaths += 1
        for changes in reversed(self._unflushed[survivors:]):
            self.undo(changes)
        self._unflushed.clear()

    def backup(self) -> dict[str, dict[Any, Any]]:
        """Return a copy of everything."""
        return {table: dict(rows) for table, rows in self.tables.items()}

    def restore(self, tables: dict[str, dict[Any, Any]]) -> None:
        """Go back to a copy; what was under way is lost."""
        self.deaths += 1
        self._unflushed.clear()
        self.tables = tables

    def undo(self, changes: list[Change]) -> None:
        """Take back changes, the newest first."""
        for table, key, before in reversed(changes):
            if before is _MISSING:
                del self.tables[table][key]
            else:
                self.tables[table][key] = before

    def durable(self, table: str, key: Any) -> Any:
        """Return the row that a crash would leave, or None."""
        for changes in self._unflushed:
            for changed_table, changed_key, before in changes:
                if changed_table == table and changed_key == key:
                    return None if before is _MISSING else before
        return self.tables[table].get(key)


class LocalTransaction:
    """What one local transaction has changed so far."""

    __slots__ = ("changes", "disk", "wrote")

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.changes: list[Change] = []
        self.wrote = False

    def get(self, table: str, key: Any) -> Any:
        """Return a row, or None."""
        return self.disk.tables[table].get(key)

    def rows(self, table: str) -> dict[Any, Any]:
        """Return a whole table, to be looked at."""
        return self.disk.tables[table]

    def put(self, table: str, key: Any, row: Any) -> None:
        """Write a row."""
        rows = self.disk.tables[table]
        self.changes.append((table, key, rows.get(key, _MISSING)))
        rows[key] = row
        self.wrote = True


def was_new(change: Change) -> bool:
    """Return whether there was no row before this change."""
    return change[2] is _MISSING
