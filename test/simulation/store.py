"""A participant's branches in memory.

The same interface as the SQL store, on a disk that loses what was not flushed.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from simulation.disk import Disk, LocalTransaction
from simulation.fate import Fate
from two_phase.errors import Unavailable
from two_phase.messages import InDoubt, State, TransactionId
from two_phase.participant.branches import BEFORE_ALL, Branch, Collision, Locked, Poison
from two_phase.participant.round_counter import Counters

_NO_ANSWER = "the database does not answer"


@dataclass(frozen=True, slots=True)
class Row:
    """A branch, and when it was recorded."""

    branch: Branch
    recorded_at: float


class MemoryBranchStore:
    """Branches on a simulated disk. Local transactions do not overlap.

    A collision is a matter of fate.
    """

    def __init__(
        self, disk: Disk, fate: Fate, now: Callable[[], float], die: Callable[[], None]
    ) -> None:
        self.disk = disk
        self._fate = fate
        self._now = now
        self._die = die

    @contextmanager
    def begin(self, *, forced: bool, hurried: bool = False) -> Iterator[LocalTransaction]:  # noqa: ARG002 - nobody waits here
        """Open a local transaction; see BranchStore."""
        disk = self.disk
        fault = "refused" if disk.down else self._fate.at("commit", disk.name)
        if fault == "database_dies_before":
            self._die()
        if fault in ("refused", "database_dies_before"):
            raise Unavailable(_NO_ANSWER)
        transaction = LocalTransaction(disk)
        try:
            yield transaction
            if fault == "collision":
                raise Collision("another replica was faster")
            # Whether the pieces meet it too is for fate to say.
            if fault == "locked":
                raise Locked("another session has locked a row")
            if fault == "poison" and _stores_what_was_asked(transaction):
                raise Poison("the database cannot store this")
        except BaseException:
            disk.undo(transaction.changes)
            raise
        disk.commit(
            transaction.changes, flush=forced and transaction.wrote and fault != "unflushed"
        )
        if fault == "database_dies_after":
            self._die()
        if fault in ("reply_lost", "unflushed", "database_dies_after"):
            raise Unavailable(_NO_ANSWER)

    def find(
        self, connection: LocalTransaction, ids: Sequence[TransactionId]
    ) -> dict[TransactionId, Branch]:
        """Return the branches that exist among ``ids``."""
        rows = connection.rows("branches")
        return {each: rows[each].branch for each in ids if each in rows}

    def settle(
        self, connection: LocalTransaction, ids: Sequence[TransactionId], state: State
    ) -> list[TransactionId]:
        """Move what is prepared among ``ids`` to ``state``; return which those were."""
        rows = connection.rows("branches")
        prepared = [
            each for each in ids if each in rows and rows[each].branch.state is State.PREPARED
        ]
        for each in prepared:
            row = rows[each]
            connection.put("branches", each, replace(row, branch=replace(row.branch, state=state)))
        return prepared

    def add(
        self,
        connection: LocalTransaction,
        branches: Sequence[Branch],
        *,
        forced: bool,
        log_counter: int,
    ) -> Counters:
        """Insert new branches, and count this local transaction; see BranchStore."""
        for branch in branches:
            if branch.payload is not None and "\\u0000" in branch.payload:
                raise Poison("the database cannot store this")
            if connection.get("branches", branch.transaction_id) is not None:
                raise Collision("the branch exists")
            assert branch.state is State.ABORTED or branch.payload is not None
            facts = json.loads(json.dumps(branch.facts)) if branch.facts else {}
            connection.put(
                "branches", branch.transaction_id, Row(replace(branch, facts=facts), self._clock())
            )
        before = self._counters()
        counters = Counters(before.counter + forced, max(before.log_seen, log_counter))
        connection.put("counters", "only", counters)
        return counters

    def counters(self) -> Counters:
        """Return the counters as they are."""
        if self.disk.down:
            raise Unavailable(_NO_ANSWER)
        return self._counters()

    def raise_to(self, counter: int) -> Counters:
        """Bring the counter to ``counter`` at least, durably."""
        with self.begin(forced=True) as connection:
            before = self._counters()
            connection.put(
                "counters", "only", replace(before, counter=max(before.counter, counter))
            )
        return self._counters()

    def _counters(self) -> Counters:
        counters: Counters = self.disk.tables["counters"].get("only", Counters(0, 0))
        return counters

    def in_doubt(
        self, older_than_seconds: float, limit: int, after: TransactionId = BEFORE_ALL
    ) -> list[InDoubt]:
        """Return branches in doubt for so long; see BranchStore."""
        if self.disk.down:
            raise Unavailable(_NO_ANSWER)
        now = self._clock()
        found = [
            each
            for each, row in self.disk.tables["branches"].items()
            if row.branch.state is State.PREPARED
            and not now - older_than_seconds < row.recorded_at <= now
            and each > after
        ]
        generations = self.disk.tables["branches"]
        return [
            InDoubt(transaction_id=each, generation=generations[each].branch.generation)
            for each in sorted(found)[:limit]
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return all branches as an auditor sees them, by id."""
        branches = sorted(self.disk.tables["branches"].items())
        return [
            {
                "transaction_id": each,
                "state": row.branch.state.value,
                "generation": row.branch.generation,
                "payload": row.branch.payload and json.loads(row.branch.payload),
                "facts": row.branch.facts,
                "reason": row.branch.reason,
                "detail": row.branch.detail,
                "contended": row.branch.contended,
                "memo": row.branch.memo and json.loads(row.branch.memo),
            }
            for each, row in branches
        ]

    def touching(self) -> list[InDoubt]:
        """Return all prepared branches, whenever the clock says they were recorded, for a read of everything."""
        if self.disk.down:
            raise Unavailable(_NO_ANSWER)
        branches = [row.branch for row in self.disk.tables["branches"].values()]
        return [
            InDoubt(transaction_id=each.transaction_id, generation=each.generation)
            for each in branches
            if each.state is State.PREPARED
        ]

    def _clock(self) -> float:
        return self._now() + self.disk.clock_ahead_seconds


def _stores_what_was_asked(transaction: LocalTransaction) -> bool:
    """Return whether something of a customer's is in it.

    A bare refusal is never what a database cannot store.
    """
    rows = transaction.rows("branches")
    return any(
        table not in ("branches", "counters")
        or (table == "branches" and rows[key].branch.payload is not None)
        for table, key, _ in transaction.changes
    )
