"""Backups, restores that nobody announces, and the operator who runs `shop reconcile` when everything else works again.

What the tool asks of the services it asks of the simulated disks here, at one moment; what it
decides is the real code. Where it wants a human's word, the human knows what the lost log had
confirmed.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from order_service.order import decision_of, row_of_lost
from shop.operator import reconcile as tool
from simulation.disk import Disk, LocalTransaction
from simulation.escrow import TRADES
from simulation.plan import SERVICES
from simulation.store import MemoryBranchStore
from two_phase.coordinator.rebuild import Lost, rebuilt, without_answer
from two_phase.messages import Ballot, Outcomes, Round
from two_phase.participant.participant import Participant

if TYPE_CHECKING:
    from simulation.world import World

Row = Mapping[str, Any]


class Operator:
    """Makes a backup, restores it at a bad time, and reconciles in the end."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._backups = {name: disk.backup() for name, disk in world.disks.items()}

    def back_up(self, name: str) -> None:
        """Keep what a database holds."""
        disk = self._world.disks[name]
        # A backup waits for what it has read to be on disk.
        disk.flush()
        self._backups[name] = disk.backup()

    def restore(self, name: str, seconds: float) -> None:
        """Stop a database, and start it from its backup ``seconds`` later."""
        world = self._world
        world.laws.is_restored(name)
        world.note("the database of %s is stopped, to be restored", name)
        disk = world.disks[name]
        disk.down = True
        disk.deaths += 1
        world.loop.call_later(seconds, self._restored, disk, context=world.context)

    def _restored(self, disk: Disk) -> None:
        world = self._world
        world.laws.is_restored(disk.name)
        disk.down = False
        self._restart_who_cannot_know(disk)
        self._stop_its_own(disk.name)
        backup = {table: dict(rows) for table, rows in self._backups[disk.name].items()}
        if disk.name == "order" and not self._can_be_noticed(backup["log_state"]["counters"][0]):
            world.note("a restore that nobody who lives could notice is left out")
            return
        if disk.name == "order":
            known = disk.tables["orders"].values()
            world.laws.lost_refusals = {
                row["transaction_id"]
                for row in known
                if row["status"] == "cancelled" and row["transaction_id"] not in backup["orders"]
            }
            world.laws.forget_attempts()
            keyed = [
                row
                for row in known
                if row["status"] == "confirmed" and row["idempotency_key"] is not None
            ]
            if world.dice.random() < 0.3 and all(
                row["transaction_id"] in backup["orders"] for row in keyed
            ):
                self._announce(backup["log_state"])
            world.laws.log_is_behind = self._seen() > backup["log_state"]["counters"][0]
        disk.restore(backup)
        world.note("the database of %s is restored from a backup", disk.name)
        world.seen[f"{'log' if disk.name == 'order' else 'participant'}: restored"] += 1

    def _restart_who_cannot_know(self, disk: Disk) -> None:
        """Restart replicas of order_service that hold old votes, or have missed the last news.

        Nobody could tell them.

        Often all are restarted, together with the database of theirs that was restored.
        """
        all_of_them = disk.name == "order" and self._world.dice.random() < 0.5
        written, heard = self._world.disks["order"].tables["log_state"]["counters"]
        for life, decision_log in self._world.laws.living_logs():
            participants = self._world.laws.participants[life]
            if disk.name == "order":
                cannot_know = life.paused or decision_log.log_position < written
            else:
                missed = any(
                    participant.history.round_count_seen < heard.get(participant.name, 0)
                    for participant in participants
                    if participant.name == disk.name
                )
                cannot_know = missed or self._world.laws.has_votes_in_hand(life)
            if all_of_them or cannot_know:
                self._world.kill(life, 0.1)

    def _stop_its_own(self, name: str) -> None:
        """Restart the processes of a participant whose database was restored, and lose what was sent to them before."""
        for address in self._world.service_of(name) if name != "order" else ():
            address.deaf_before = self._world.loop.now
            if address.life is not None:
                self._world.kill(address.life, 0.1)

    def _announce(self, state: dict[str, Any]) -> None:
        """Let a log go on in a new generation before it is reconciled, as one may by hand if no key has lost its order."""
        self._world.note("the restore is announced")
        lost: dict[str, Any] = self._world.disks["order"].tables["log_state"]
        state.update(generation=lost["generation"] + 1, counters=lost["counters"])

    def _can_be_noticed(self, written: int) -> bool:
        """Return whether anybody who lives has seen more of the log than its backup knows, or nothing is lost with it."""
        known = [decision_log.log_position for _, decision_log in self._world.laws.living_logs()]
        return (
            max([*known, self._seen()]) > written
            or self._world.disks["order"].tables["log_state"]["counters"][0] == written
        )

    def _seen(self) -> int:
        """Return how far a participant has seen the log, durably."""
        counters = [self._world.disks[name].durable("counters", "only") for name in SERVICES]
        return max((each.log_seen for each in counters if each is not None), default=0)

    def reconcile(self) -> None:
        """Run the tool as often as an operator would, and tell the laws what it has left to a human."""
        world = self._world
        services: Any = Services(world)
        world.laws.log_is_behind = False
        world.laws.reconciling = True
        options = tool.Options(confirm=world.laws.confirmed_before(), cancel=(tool.ALL,))
        with patch.object(tool, "time", SimpleNamespace(sleep=lambda _seconds: None)):
            findings = tool.reconcile(services, options)
        world.note("reconciled: %s", findings)
        for word, rows in findings.rebuilt.items():
            world.seen[f"reconcile: {word} again"] += len(rows)
        world.seen["reconcile: replayed"] += sum(map(len, findings.replayed.values()))
        world.laws.is_reconciled(findings)


class Services:
    """The services as the tool reaches them."""

    participants = SERVICES

    def __init__(self, world: "World") -> None:
        self._world = world
        self._log = world.disks["order"]

    def standing(self) -> Row:
        """Return how far the log has come."""
        state = self._log.tables["log_state"]
        written, heard = state["counters"]
        restored = sorted(self._log.tables["restored"])
        return {
            "generation": state["generation"],
            "written": written,
            "heard": heard,
            "restored": restored,
        }

    def counters(self, name: str) -> Row:
        """Return a participant's counters."""
        counters = self._store(name).counters()
        return {"counter": counters.counter, "log_seen": counters.log_seen}

    def decisions(self, after: str, limit: int) -> list[Row]:
        """Return decisions behind ``after``."""
        known = self._log.tables["orders"]
        return [self._decision(known[each]) for each in sorted(known) if each > after][:limit]

    def _decision(self, row: Row) -> Row:
        return decision_of({"participants": None, "items": None, "age_seconds": 0.0, **row})

    def branches(self, name: str, after: str, limit: int) -> list[Row]:
        """Return branches behind ``after``."""
        return [each for each in self._store(name).records() if each["transaction_id"] > after][
            :limit
        ]

    def rebuild(self, lost: Sequence[Row]) -> Outcomes:
        """Write lost decisions again."""
        transaction = LocalTransaction(self._log)
        rows = [
            row
            for each in lost
            if (row := rebuilt(Lost.model_validate(each, strict=False), row_of_lost))
        ]
        for row in rows:
            self._world.log.insert_again(transaction, row)
        for row in without_answer(rows, self._said(rows)):
            self._world.log.insert_again(transaction, row)
        self._log.commit(transaction.changes, flush=True)
        return self._said(rows)

    def _said(self, rows: Sequence[Row]) -> Outcomes:
        known = self._log.tables["orders"]
        said = {
            each: known[each]["status"] for row in rows if (each := row["transaction_id"]) in known
        }
        return Outcomes(
            confirmed=[each for each, status in said.items() if status == "confirmed"],
            cancelled=[each for each, status in said.items() if status == "cancelled"],
        )

    def round(self, name: str, message: Round) -> Ballot:
        """Send a round."""
        participant: Participant[Any, Any] = Participant(self._store(name), *TRADES[name])
        return participant.round(
            Round.model_validate_json(message.model_dump_json(exclude_unset=True))
        )

    def hold(self, restored: Iterable[str]) -> None:
        """Stop orders until these participants are reconciled."""
        self._log.tables["restored"].update(dict.fromkeys(restored, True))
        self._log.flush()

    def raise_to(self, name: str, counter: int) -> None:
        """Lift a participant's counter."""
        self._store(name).raise_to(counter)

    def resume(self, log_counter: int, reconciled: Iterable[str]) -> None:
        """Let orders flow again."""
        state = self._log.tables["log_state"]
        written, heard = state["counters"]
        if written < log_counter:
            state.update(generation=state["generation"] + 1, counters=(log_counter, heard))
        for name in reconciled:
            self._log.tables["restored"].pop(name, None)
        self._log.flush()

    def _store(self, name: str) -> MemoryBranchStore:
        world = self._world
        return MemoryBranchStore(world.disks[name], world.fate, world.loop.time, lambda: None)
