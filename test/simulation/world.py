"""One run: four services in two replicas each, their databases, a network, customers, and whatever goes wrong."""

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager
from contextvars import copy_context
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from simulation.backups import Operator
from simulation.clock import OWNER, Life, ProcessDied, VirtualLoop
from simulation.customers import Customers
from simulation.disk import Disk
from simulation.fate import Fate
from simulation.laws import Laws
from simulation.log import LogDatabase
from simulation.network import Address, Network
from simulation.plan import DATABASES, PROCESSES, SERVICES, Plan, Trouble
from simulation.probes import probe
from simulation.processes import boot_coordinator, boot_participant
from simulation.sessions import Sessions
from two_phase import crash_points
from two_phase.coordinator import sql_decision_log

#: The virtual time at which every run begins.
START_SECONDS = 1_800_000_000.0
#: When everything works again, nothing may stay in doubt for longer than twice ``in_doubt_after``,
#: and this for questions to a replica that sleeps.
_REST_SECONDS = 20.0
#: Longer than any message is late.
_SILENCE_SECONDS_MAX = 60.0
_TABLES = {
    "order": ("orders", "keys", "claims", "log_state", "restored"),
    "payment": ("branches", "counters", "accounts"),
    "stock": ("branches", "counters", "products"),
    "delivery": ("branches", "counters", "slots", "bookings"),
}


class World:
    """Everything that exists in one run."""

    def __init__(self, plan: Plan, fate: Fate, dice: Random, *, recording: bool = False) -> None:
        self.plan = plan
        self.fate = fate
        self.dice = dice
        self.history: list[str] | None = [] if recording else None
        self.loop = VirtualLoop(START_SECONDS)
        #: The crash points and the transitions that the run came through.
        self.seen: Counter[str] = Counter()
        self.laws = Laws(self)
        self.context = copy_context()
        self.network = Network(self.loop, fate, self.context, self.note, remembering=plan.probed)
        self.addresses = {name: Address(name) for name in PROCESSES}
        self.disks = {name: Disk(name, _TABLES[name]) for name in DATABASES}
        self._fill()
        self.log = LogDatabase(
            self.disks["order"],
            fate,
            self.loop,
            lambda: self.database_dies("order"),
            self.laws.broke,
            self.context,
        )
        self.sessions = Sessions(self.log, self.loop)
        self.customers = Customers(self)
        self._sleepers: list[Life] = []
        self._operator = Operator(self)

    def _fill(self) -> None:
        plan = self.plan
        self.disks["payment"].tables["accounts"].update(plan.balances)
        self.disks["stock"].tables["products"].update(plan.products)
        slots = {
            slot: tuple(f"courier-{slot}-{number}" for number in range(count))
            for slot, count in plan.couriers.items()
        }
        self.disks["delivery"].tables["slots"].update(slots)
        self.disks["order"].watch = self.laws.log_changed
        for service in SERVICES:
            self.disks[service].watch = self.laws.watcher_of(service)

    def note(self, sentence: str, *facts: Any) -> None:
        """Write into the history, if there is one."""
        if self.history is not None:
            self.history.append(f"{self.loop.now - START_SECONDS:10.4f}  {sentence % facts}")

    def service_of(self, service: str) -> list[Address]:
        """Return where the replicas of a service can be reached."""
        return [self.addresses[f"{service}-{replica}"] for replica in (1, 2)]

    def run(self) -> None:
        """Run from the beginning to the rest at the end.

        Afterwards ``laws.broken`` says what was wrong.
        """
        with _patched(self):
            self.loop.run(self._main())
        self.seen.update(self.fate.struck)
        self.laws.broken.extend(f"no_surprises: {sentence}" for sentence in self.loop.broken)

    async def _main(self) -> None:
        for name in PROCESSES:
            self.start(name)
        for trouble in self.plan.troubles:
            self.loop.call_later(trouble.at_seconds, self._trouble, trouble)
        await self.customers.served(self.plan.heal_at_seconds)
        self._heal()
        await self.rest()
        if self.laws.restored:
            self._operator.reconcile()
            # Replicas look once a second.
            await asyncio.sleep(2.5)
            await self.rest()
        self.laws.hold_at_rest()
        if self._sleepers:
            for life in self._sleepers:
                self.note("%s wakes", life.name)
                self.loop.wake(life)
            self._sleepers = []
            await self.rest()
            self.laws.hold_at_rest()
        if self.plan.probed and not self.laws.broken:
            await probe(self)

    async def rest(self) -> None:
        """Wait until nothing moves; it is a law that this comes soon."""
        await self._silence()
        deadline = self.loop.now + 2 * self.plan.in_doubt_after_seconds + _REST_SECONDS
        while not self.laws.broken:
            sent = self.network.sent + self.log.sent
            # Longer than anybody pauses before he tries again.
            await asyncio.sleep(1.2)
            restless = self.laws.restless()
            quiet = sent == self.network.sent + self.log.sent or self.laws.asks_for_ever()
            if not restless and quiet and not self._messages_under_way():
                return
            if self.loop.now > deadline:
                self.laws.broke("branch_left_in_doubt", restless or "messages without end")

    async def _silence(self) -> None:
        """Wait until the last message that was late has arrived."""
        # At least once: a process that wakes has to deal with what came while it slept.
        await asyncio.sleep(1.0)
        deadline = self.loop.now + _SILENCE_SECONDS_MAX
        while self._messages_under_way() and self.loop.now < deadline:
            await asyncio.sleep(0.7)

    def _messages_under_way(self) -> int:
        return self.network.under_way + self.log.under_way

    def _heal(self) -> None:
        self.note("from now on nothing goes wrong")
        self.fate.over = True
        self.network.cut.clear()
        for disk in self.disks.values():
            disk.down = False
        for name, address in self.addresses.items():
            if address.life is None:
                self.start(name)
            elif address.life.paused and address.life not in self._sleepers:
                self.loop.wake(address.life)

    def start(self, name: str) -> None:
        """Start a process, unless it lives."""
        if self.addresses[name].life is not None:
            return
        self.note("%s starts", name)
        service = name.split("-", maxsplit=1)[0]
        life = Life(name, service)
        self.addresses[name].life = life
        boot = boot_coordinator if service == "order" else boot_participant
        self.loop.call_soon(boot, self, life, context=life.context)

    def kill(self, life: Life, down_seconds: float) -> None:
        """End a life at once; another begins later."""
        if not life.alive:
            return
        self.note("%s dies", life.name)
        life.alive = False
        self.addresses[life.name].life = None
        self.network.reset(life)
        self.loop.call_later(down_seconds, self.start, life.name, context=self.context)

    def pause(self, life: Life, seconds: float) -> None:
        """Stop a life where it stands, and let it go on later."""
        if life.paused:
            return
        self.note("%s is paused for %.1f s", life.name, seconds)
        life.paused = True
        self.loop.call_later(seconds, self._resume, life, context=self.context)

    def _resume(self, life: Life) -> None:
        if life.paused and life not in self._sleepers:
            self.note("%s goes on", life.name)
            self.loop.wake(life)

    def database_dies(self, name: str, down_seconds: float | None = None) -> None:
        """End a database, with what it has not flushed."""
        disk = self.disks[name]
        if disk.down:
            return
        survivors = self.fate.survivors(disk.unflushed)
        self.note(
            "the database of %s dies and loses %d transactions", name, disk.unflushed - survivors
        )
        disk.die(survivors)
        seconds = self.fate.seconds("down") if down_seconds is None else down_seconds
        self.loop.call_later(seconds, self._database_starts, disk, context=self.context)

    def _database_starts(self, disk: Disk) -> None:
        self.note("the database of %s is back", disk.name)
        disk.down = False

    def reach(self, point: str) -> None:
        """Stand for ``crash_points.reach``.

        The process that comes here may die here, or stop for a while.
        """
        life = OWNER.get()
        if life is None:
            return
        place = f"{'coordinator' if life.service == 'order' else 'participant'}: {point}"
        self.seen[place] += 1
        fault = self.fate.at("point", f"{life.name} {point}")
        self.note("%s reaches %s %s", life.name, point, fault)
        if fault == "crash":
            self.kill(life, self.fate.seconds("down"))
            raise ProcessDied
        if fault:
            self.pause(life, self.fate.seconds(fault))

    def _trouble(self, trouble: Trouble) -> None:
        if self.fate.over:
            return
        if trouble.what == "database":
            self.database_dies(trouble.target, trouble.seconds)
        elif trouble.what == "cut":
            self._cut(trouble.target, trouble.other, trouble.seconds)
        elif trouble.what == "backup":
            self._operator.back_up(trouble.target)
        elif trouble.what == "restore":
            self._operator.restore(trouble.target, trouble.seconds)
        elif trouble.what == "price":
            self._change_price()
        elif trouble.what == "clock":
            self.note(
                "the clock of the database of %s jumps by %.1f s", trouble.target, trouble.seconds
            )
            self.disks[trouble.target].clock_ahead_seconds += trouble.seconds
        else:
            self._strike(trouble)

    def _strike(self, trouble: Trouble) -> None:
        life = self.addresses[trouble.target].life
        if life is None or life in self._sleepers:
            return
        if trouble.what == "crash":
            self.kill(life, trouble.seconds)
            return
        self.pause(life, trouble.seconds or 1e9)
        if trouble.what == "sleep":
            self._sleepers.append(life)

    def _cut(self, source: str, target: str, seconds: float) -> None:
        self.note("nothing gets through from %s to %s", source, target)
        self.network.cut.add((source, target))
        self.loop.call_later(
            seconds, self.network.cut.discard, (source, target), context=self.context
        )

    def _change_price(self) -> None:
        disk = self.disks["stock"]
        if disk.down:
            return
        product_id = self.dice.choice(sorted(self.plan.products))
        price, available = disk.tables["products"][product_id]
        self.note("product %d costs %d", product_id, price + 1)
        change = ("products", product_id, (price, available))
        disk.tables["products"][product_id] = (price + 1, available)
        disk.commit([change], flush=True)


@contextmanager
def _patched(world: World) -> Any:
    """Let the code reach this world where it would reach the real one."""
    logging.disable(logging.CRITICAL)
    sleeping = SimpleNamespace(sleep=world.sessions.sleep)
    with (
        patch.object(crash_points, "on_reach", world.reach),
        patch.object(sql_decision_log, "time", sleeping),
    ):
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
