"""The laws of the protocol: some are looked at whenever something becomes visible, the others when everything is at rest."""

from typing import TYPE_CHECKING, Any

from order_service.checkout import OrderRequest
from simulation.balance import AT_REST, is_forgotten
from simulation.customers import Told
from simulation.disk import Change, was_new
from simulation.plan import SERVICES
from simulation.watch import Watch
from two_phase.messages import Ballot, Outcomes, Round, State, TransactionId
from two_phase.participant.branches import Branch

if TYPE_CHECKING:
    pass

_TOO_LITTLE = ("insufficient_funds", "out_of_stock", "no_courier")
_LEGAL = {
    (None, State.PREPARED),
    (None, State.ABORTED),
    (State.PREPARED, State.COMMITTED),
    (State.PREPARED, State.ABORTED),
}


class Laws(Watch):
    """Looks at every commit, message and answer, and at the rest."""

    def watcher_of(self, service: str) -> Any:
        """Return what looks at every commit of a participant."""

        def changed(changes: list[Change]) -> None:
            for change in changes:
                if change[0] == "branches":
                    self._branch_changed(service, change)
                elif change[0] != "counters":
                    self._not_overdrawn(service, change)

        return changed

    def _branch_changed(self, service: str, change: Change) -> None:
        _, transaction_id, before = change
        branch: Branch = self.branches_of(service)[transaction_id].branch
        state_before = None if was_new(change) else before.branch.state
        self._world.note(
            "%s: %s is %s %s", service, transaction_id, branch.state, branch.reason or ""
        )
        self._world.seen[f"branch: {state_before} -> {branch.state}"] += 1
        if (state_before, branch.state) not in _LEGAL:
            self.broke(
                "vote_is_a_promise",
                f"{service}: {transaction_id} went from {state_before} to {branch.state}",
            )
        if branch.state is State.COMMITTED:
            self.acts(transaction_id, "confirmed", service)
        elif branch.state is State.ABORTED and branch.reason is None:
            self.acts(transaction_id, "cancelled", service)
        elif branch.reason in _TOO_LITTLE:
            self._not_its_own_rival(service, transaction_id)

    def _not_its_own_rival(self, service: str, transaction_id: TransactionId) -> None:
        key = self._key_of.get(transaction_id)
        for other, row in self.branches_of(service).items():
            if (
                key is not None
                and not self.restored
                and row.branch.state is State.PREPARED
                and self._key_of.get(other) == key
                and other not in self._forgotten
            ):
                self.broke(
                    "key_competes_with_itself",
                    f"{service}: {transaction_id} is refused for what {other} holds",
                )

    def _not_overdrawn(self, service: str, change: Change) -> None:
        table, key, _ = change
        if table == "bookings":
            return
        row = self._world.disks[service].tables[table][key]
        available = row if table == "accounts" else row[1] if table == "products" else 0
        if available < 0:
            self.broke("nothing_is_overdrawn", f"{service}: {key} has {available}")

    def log_changed(self, changes: list[Change]) -> None:
        """Look at every commit of the log."""
        tables = self._world.disks["order"].tables
        for change in changes:
            table, key, _ = change
            if table == "orders":
                self._decided(change, tables["orders"][key])

    def _decided(self, change: Change, row: dict[str, Any]) -> None:
        transaction_id, status = row["transaction_id"], row["status"]
        self._world.note("log: %s is %s", transaction_id, status)
        self._world.seen[f"order: {'none' if was_new(change) else 'decided'} -> {status}"] += 1
        if self.log_is_behind:
            self.broke("restored_log_writes_nothing", f"{transaction_id} is {status}")
        current = self._world.disks["order"].tables["log_state"]["generation"]
        if row["generation"] != current and not self.reconciling:
            self.broke(
                "log_knows_its_generation", f"{transaction_id} is of generation {row['generation']}"
            )
        if not was_new(change):
            self.broke("decision_never_changes", f"the row of {transaction_id} was changed")
        if status == "confirmed":
            # A vote that a restore has taken back is a promise that nobody can keep.
            for service in set(SERVICES) - self.restored:
                row_on_disk = self._world.disks[service].durable("branches", transaction_id)
                if row_on_disk is None or row_on_disk.branch.state is State.ABORTED:
                    self.broke(
                        "confirmed_only_by_all_votes",
                        f"{service} has no durable branch of {transaction_id}",
                    )

    def round_leaves(self, message: Round) -> None:
        """Look at every round that leaves order_service: nobody is told what is not durable."""
        for transaction_id in message.commits:
            row = self.row_on_disk(transaction_id)
            if row is None or row["status"] != "confirmed":
                self.broke("told_what_is_durable", f"a commit of {transaction_id} leaves")
            self.acts(transaction_id, "confirmed", "a round")
        for transaction_id in message.aborts:
            self.acts(transaction_id, "cancelled", "a round")

    def outcomes_leave(self, outcomes: Outcomes) -> None:
        """Look at every answer to a participant's question."""
        decided = [(each, "confirmed") for each in outcomes.confirmed] + [
            (each, "cancelled") for each in outcomes.cancelled
        ]
        for transaction_id, decision in decided:
            row = self.row_on_disk(transaction_id)
            if row is None or row["status"] != decision:
                self.broke(
                    "told_what_is_durable",
                    f"{decision} is the answer to a question about {transaction_id}",
                )

    def ballot_leaves(self, service: str, ballot: Ballot) -> None:
        """Look at every vote before it leaves: a yes rests on a row that survives."""
        for vote in ballot.votes:
            row = (
                self._world.disks[service].durable("branches", vote.transaction_id)
                if vote.prepared
                else None
            )
            if vote.prepared and (row is None or row.branch.state is State.ABORTED):
                self.broke(
                    "vote_is_a_promise",
                    f"{service} votes for {vote.transaction_id}, which is not durable",
                )

    def about_to_tell(self, order_request: OrderRequest, told: Told) -> None:
        """Look at every answer before it leaves.

        It rests on a row that survives, apart from a refusal without a key.
        """
        if told.status not in (201, 409) or told.order_id is None:
            return
        row = self.row_on_disk(told.order_id)
        if row is None and (told.status == 201 or order_request.key is not None):
            self.broke("told_what_is_durable", f"{told} is told")
        if row is not None and (row["status"] == "confirmed") != (told.status == 201):
            self.broke("told_what_is_recorded", f"{told} is told, and the log says {row['status']}")
        self.acts(told.order_id, "confirmed" if told.status == 201 else "cancelled", "an answer")

    def was_told(self, order_request: OrderRequest, told: Told) -> None:
        """Look at what a customer has heard."""
        if told.status == 503 and told.order_id is not None:
            self.acts(told.order_id, "cancelled", "a customer")
        if told.status not in (201, 409) or order_request.key is None:
            return
        answers = {
            answer
            for other, answer in self._world.customers.told
            if (other.user_id, other.key) == (order_request.user_id, order_request.key)
            and answer.status in (201, 409)
            if answer.order_id not in self.lost_refusals
        }
        if len(answers) > 1:
            self.broke("same_key_same_answer", f"{order_request.key}: {sorted(map(str, answers))}")

    def was_shown(self, service: str, told: Told, shown: dict[TransactionId, Branch]) -> None:
        """Look at what a customer sees after he was told something."""
        branch = shown.get(str(told.order_id))
        if service in self.restored:
            return
        if told.status == 201 and (branch is None or branch.state is not State.COMMITTED):
            self.broke("read_your_writes", f"{service} shows {branch} after {told}")

    def restless(self) -> str:
        """Return what still has to happen, or nothing."""
        for service in SERVICES:
            for transaction_id, row in self.branches_of(service).items():
                if row.branch.state is State.PREPARED and not is_forgotten(self._world, row.branch):
                    return f"{service}: {transaction_id} is prepared"
        for life, participants in self.participants.items():
            if life.alive and not life.paused:
                for participant in participants:
                    if participant.unacknowledged:
                        return f"{life.name} has to tell {participant.name}"
        return ""

    def asks_for_ever(self) -> bool:
        """Return whether somebody asks again and again about what a restored log has forgotten."""
        return any(
            row.branch.state is State.PREPARED and is_forgotten(self._world, row.branch)
            for service in SERVICES
            for row in self.branches_of(service).values()
        )

    def hold_at_rest(self) -> None:
        """Look at everything, when nothing moves any more."""
        for law in AT_REST:
            for sentence in law(self._world):
                self.broke(law.__name__, sentence)
            if self.broken:
                # The next one takes this one for granted.
                return
        for transaction_id, row in self._world.disks["order"].tables["orders"].items():
            self.acts(transaction_id, row["status"], "the log")
