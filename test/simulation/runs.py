"""Running worlds: one seed, or one order with chosen faults, and what came of it."""

import gc
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from simulation.fate import ChosenFate, RandomFate
from simulation.plan import Plan, plan_of
from simulation.world import World

#: Worlds are full of circles; collecting them while one runs would only slow it down.
_RUNS_PER_COLLECTION = 25


@dataclass
class Outcome:
    """What a number of runs came to."""

    runs: int = 0
    orders: int = 0
    #: What each broken run was, and the first law that it broke.
    broken: list[tuple[str, str]] = field(default_factory=list)
    #: How often each crash point and each transition was seen.
    seen: Counter[str] = field(default_factory=Counter)
    #: What customers were told, by status.
    told: Counter[int] = field(default_factory=Counter)

    def add(self, name: str, world: World) -> None:
        """Count a run."""
        self.runs += 1
        self.orders += len(world.plan.errands)
        self.seen.update(world.seen)
        self.told.update(told.status for _, told in world.customers.told)
        if world.laws.broken:
            self.broken.append((name, world.laws.broken[0]))

    def merge(self, other: "Outcome") -> None:
        """Add what others have counted."""
        self.runs += other.runs
        self.orders += other.orders
        self.broken += other.broken
        self.seen += other.seen
        self.told += other.told


def world_of(seed: int, *, recording: bool = False) -> World:
    """Return the world of a seed, after its end."""
    plan = plan_of(seed)
    dice = Random(f"{seed}: fate")
    world = World(plan, RandomFate(dice, plan.rates, plan.faults), dice, recording=recording)
    world.run()
    return world


def chosen_world(
    plan: Plan, chosen: Mapping[int, str], *, recording: bool = False
) -> tuple[World, ChosenFate]:
    """Return the world of a plan with faults at chosen places, after its end, and all places it came through."""
    fate = ChosenFate(chosen)
    world = World(plan, fate, Random("chosen"), recording=recording)
    world.run()
    return world, fate


def run_seeds(seeds: Iterable[int], *, until_broken: bool = False) -> Outcome:
    """Run these seeds."""
    outcome = Outcome()
    with collecting() as collect:
        for seed in seeds:
            outcome.add(f"seed {seed}", world_of(seed))
            collect()
            if outcome.broken and until_broken:
                break
    return outcome


@contextmanager
def collecting() -> Iterator[Callable[[], None]]:
    """Collect garbage between runs and never during one."""
    runs = itertools.count(1)

    def collect() -> None:
        if next(runs) % _RUNS_PER_COLLECTION == 0:
            gc.collect()

    gc.disable()
    # What was there before is not looked at again and again.
    gc.freeze()
    try:
        yield collect
    finally:
        gc.unfreeze()
        gc.enable()


def history_of(world: World) -> str:
    """Return what happened in a recorded run, and which laws it broke."""
    assert world.history is not None
    return "\n".join(
        [f"{world.plan}", *world.history, "", *(f"BROKEN: {law}" for law in world.laws.broken)]
    )
