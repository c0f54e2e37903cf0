"""What is known of a run: what was begun, acted upon, lost by a restore, and which laws were broken."""

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from shop.operator.reconcile import Findings
from simulation.clock import Life
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.verdict import Transaction
from two_phase.messages import TransactionId

if TYPE_CHECKING:
    from simulation.world import World


class Watch:
    """Watches a world, and remembers what the laws need to know."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.broken: list[str] = []
        self.participants: dict[Life, list[RemoteParticipant]] = {}
        #: On which decisions somebody acted, by transaction.
        self._acted: defaultdict[TransactionId, set[str]] = defaultdict(set)
        self._begun: defaultdict[Life, set[TransactionId]] = defaultdict(set)
        self._key_of: dict[TransactionId, tuple[int, str]] = {}
        self.logs: dict[Life, SqlDecisionLog] = {}
        #: Databases that were restored from an older backup, and are not reconciled yet.
        self.restored: set[str] = set()
        #: The log has fallen back behind what a participant has seen of it: it must write nothing.
        self.log_is_behind = False
        #: Lost rows are written again, each with the generation that it had.
        self.reconciling = False
        #: Confirmed orders that a restored participant has refused to take back.
        self.named: set[TransactionId] = set()
        #: Refusals that a restored log has lost: the branches tell most of them, but not which of
        #: them were told.
        self.lost_refusals: set[TransactionId] = set()
        #: Attempts that a restored log has forgotten with the claims: no later attempt of their
        #: keys can abort them.
        self._forgotten: set[TransactionId] = set()
        #: What was durable before the log was restored.
        self._remembered: dict[TransactionId, dict[str, Any]] = {}

    def broke(self, law: str, detail: str) -> None:
        """Note that a law does not hold.

        What happens while the run is cleared away is nobody's fault.
        """
        if self._world.loop.is_closed():
            return
        self._world.note("BROKEN: %s: %s", law, detail)
        self.broken.append(f"{law}: {detail}")

    def acts(self, transaction_id: TransactionId, decision: str, who: str) -> None:
        """Note that ``who`` acts on a decision; it must be the one that others act on."""
        acted = self._acted[transaction_id]
        acted.add(decision)
        if len(acted) > 1:
            self.broke(
                "decision_never_changes",
                f"{who} acts on {decision} of {transaction_id}, another on the contrary",
            )

    def begins(self, life: Life, transaction: Transaction) -> None:
        """Remember for which key a transaction is, and who has begun it."""
        self._begun[life].add(transaction.transaction_id)
        if transaction.record.key is not None:
            self._key_of[transaction.transaction_id] = (
                transaction.record.user_id,
                transaction.record.key,
            )

    def has_votes_in_hand(self, life: Life) -> bool:
        """Return whether a replica of order_service has begun what is not decided yet."""
        return not self._begun[life] <= self._world.disks["order"].tables["orders"].keys()

    def forget_attempts(self) -> None:
        """Expect no attempt from now on to know of those before.

        The log is restored, and its claims with it.
        """
        self._forgotten.update(self._key_of)

    def living_logs(self) -> list[tuple[Life, SqlDecisionLog]]:
        """Return the log as each replica that lives knows it."""
        return [(life, log) for life, log in self.logs.items() if life.alive]

    def confirmed_before(self) -> frozenset[TransactionId]:
        """Return what the log had confirmed before it was restored.

        A human has the bank's statements.
        """
        return frozenset(
            each for each, row in self._remembered.items() if row["status"] == "confirmed"
        )

    def is_reconciled(self, findings: Findings) -> None:
        """Expect everything again, apart from what is left to a human."""
        self.restored.clear()
        self.reconciling = False
        for sentence in findings.for_a_human:
            # Whatever else was free when it was taken is free again: nobody gets orders before it
            # is taken back.
            if refused := re.match(
                r"order (\S{36}) is confirmed, and stock refuses it now: another price by now",
                sentence,
            ):
                self.named.add(refused[1])
            else:
                self.broke("reconciled", sentence)

    def is_restored(self, name: str) -> None:
        """Remember what a database is about to forget.

        It may have been told, and is told further.
        """
        self.restored.add(name)
        if name != "order":
            return
        orders = self._world.disks["order"].tables["orders"]
        self._remembered.update(
            {each: row for each in orders if (row := self.row_on_disk(each)) is not None}
        )

    def row_on_disk(self, transaction_id: TransactionId) -> dict[str, Any] | None:
        """Return the durable row of an order, or the one that a restore has taken away."""
        row: dict[str, Any] | None = self._world.disks["order"].durable("orders", transaction_id)
        return row or self._remembered.get(transaction_id)

    def branches_of(self, service: str) -> dict[TransactionId, Any]:
        """Return the table of branches of a service."""
        return self._world.disks[service].tables["branches"]
