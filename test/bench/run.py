"""`make bench`: the shop and everything that it is compared with, interleaved in one run on one PostgreSQL.

    start the shop -> for each round: every system in turn, each number of clients: warm up, measure -> table, JSON, charts

A round begins with another system each time, so that none always has the fresh or the tired
machine.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import idle
import load
import reads
import report
import runs
import tables
from comparisons.order import PRICE
from measure import Point, Sample, sample
from peers import dtm
from ratios import RATIOS, by_round, median
from rich.console import Console
from seed import Size
from shop_system import Shop, slots_for
from systems import Comparison, System, comparisons

CLIENTS = (1, 16, 64, 256)
VARIANTS = ("spread", "one product", "one account")
#: Above what the shop can do, so that no slot runs out of couriers.
ORDERS_PER_SECOND_MAX = 6000


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    warm_seconds: int
    seconds: int
    quick: bool
    #: How long the shop is watched doing nothing.
    idle_seconds: int = 0
    #: Whether the systems of others are measured: `if possible`, `always` or `never`.
    peers: str = "if possible"
    #: How long each read is measured.
    read_seconds: int = 0
    #: The systems that are measured; all if there are none.
    only: tuple[str, ...] = ()
    #: Whether the result replaces that of the last run.
    kept: bool = True


@dataclass(frozen=True)
class Found:
    """What was measured: orders, the shop at rest, reads."""

    samples: Sequence[Sample]
    resting: dict[str, idle.Idle]
    readings: Sequence[dict[str, Any]]


FULL = Plan(rounds=3, warm_seconds=1, seconds=5, quick=False, idle_seconds=30, read_seconds=3)
QUICK = Plan(
    rounds=3, warm_seconds=1, seconds=3, quick=True, peers="never", only=("shop", "bare core")
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="c=64 alone, the shop against bare core, in under a minute",
    )
    parser.add_argument(
        "--rounds", type=int, help="for a trial: another number of rounds, and nothing is written"
    )
    parser.add_argument(
        "--seconds",
        type=int,
        help="for a trial: another length of each measurement, and nothing is written",
    )
    parser.add_argument(
        "--only",
        action="append",
        help="for a trial: this system alone (repeat it for more), and nothing is written",
    )
    parser.add_argument(
        "--peers",
        choices=("if possible", "always", "never"),
        default="if possible",
        help="whether DTM is measured",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, and tell what came out."""
    plan = _plan(_arguments())
    console = runs.provide_console()
    generator = load.provide()
    peer = _peer(plan, console)
    with runs.folder() as folder:
        shop = _shop(plan, folder)
        with shop.running():
            resting = _resting(plan, shop, console)
            samples = list(_samples(plan, shop, peer, folder, console))
            found = Found(samples, resting, _readings(plan, shop, folder, console))
            settings = {
                "generator": f"{generator}, 1 thread",
                "postgres": shop.server.version,
                "dtm": peer and peer.version,
                "price": PRICE,
                **asdict(plan),
            }
    _tell(plan, found, settings, console)


def _plan(asked: argparse.Namespace) -> Plan:
    plan = QUICK if asked.quick else FULL
    trial = asked.rounds is not None or asked.seconds is not None or asked.only is not None
    return replace(
        plan,
        rounds=asked.rounds or plan.rounds,
        seconds=asked.seconds or plan.seconds,
        peers="never" if plan.quick else asked.peers,
        only=tuple(asked.only or plan.only),
        kept=not plan.quick and not trial,
    )


def _peer(plan: Plan, console: Console) -> dtm.Built | None:
    """Build DTM, or say loudly why it is not measured."""
    if plan.peers == "never" or (plan.only and dtm.NAME not in plan.only):
        return None
    try:
        return dtm.build(runs.DATA.parent / "peers", console.print)
    except dtm.Unbuilt as reason:
        if plan.peers == "always":
            sys.exit(f"DTM CANNOT BE MEASURED: {reason}")
        console.print(f"DTM IS NOT MEASURED: {reason}", style="bold red")
        return None


def _shop(plan: Plan, folder: Path) -> Shop:
    each = plan.rounds * (plan.warm_seconds + plan.seconds) * ORDERS_PER_SECOND_MAX
    if plan.quick:
        return Shop(folder, Size(1000, 1000, slots_for(each)), 0, clients=(64,))
    # Half of the numbers of clients are far below the maximum.
    spread, in_a_row = slots_for(2 * 2 * each), slots_for(2 * each)
    spread += reads.slots_needed(plan.rounds, plan.read_seconds)
    return Shop(folder, Size(1000, 1000, spread), in_a_row, clients=CLIENTS)


def _resting(plan: Plan, shop: Shop, console: Console) -> dict[str, idle.Idle]:
    if not plan.idle_seconds:
        return {}
    with console.status(f"the shop rests for {plan.idle_seconds} s"):
        return idle.measured(shop, plan.idle_seconds)


def _readings(plan: Plan, shop: Shop, folder: Path, console: Console) -> list[dict[str, Any]]:
    if not plan.read_seconds or plan.only:
        return []
    bare = reads.bare_get(shop.comparisons_url, folder)
    with console.status("the shop is read"):
        found = reads.measured(shop, bare, folder, rounds=plan.rounds, seconds=plan.read_seconds)
        return [each.as_json() for each in found]


def _samples(
    plan: Plan, shop: Shop, peer: dtm.Built | None, folder: Path, console: Console
) -> Iterator[Sample]:
    everything = [shop, *_comparisons(shop, peer, folder)]
    systems = [system for system in everything if not plan.only or system.name in plan.only]
    tasks = [(system, point) for system in systems for point in _points(plan, system)]
    with runs.progress(console) as progress:
        bar = progress.add_task("starting", total=len(tasks) * plan.rounds)
        for number in range(plan.rounds):
            for system in _rotated(systems, number):
                with nullcontext() if system is shop else system.running():
                    for point in _points(plan, system):
                        label = f"round {number + 1} of {plan.rounds}: {point.system}, {point.variant}, c={point.clients}"
                        progress.update(bar, description=label)
                        yield sample(
                            system,
                            shop.server,
                            point,
                            number,
                            warm_seconds=plan.warm_seconds,
                            seconds=plan.seconds,
                        )
                        progress.advance(bar)


def _comparisons(shop: Shop, peer: dtm.Built | None, folder: Path) -> list[Comparison]:
    database_url = shop.comparisons_url
    server = type(shop.server)(shop.dsn("comparisons"), shop.server.pid)
    found = comparisons(database_url, server, folder)
    return found if peer is None else [*found, dtm.system(peer, server, folder)]


def _points(plan: Plan, system: System) -> list[Point]:
    if plan.quick:
        return [Point(system.name, "spread", 64)]
    variants = [variant for variant in VARIANTS if variant in system.variants]
    return [
        Point(system.name, variant, clients)
        for variant, clients in itertools.product(variants, system.clients)
    ]


def _rotated(systems: Sequence[System], number: int) -> list[System]:
    first = number * 2 % len(systems)
    return [*systems[first:], *systems[:first]]


def _tell(plan: Plan, found: Found, settings: dict[str, Any], console: Console) -> None:
    samples = found.samples
    beside = {"idle": idle.as_json(found.resting), "reads": found.readings}
    result = runs.described(report.as_json(samples, settings) | beside)
    console.print(
        f"{settings['generator']}; PostgreSQL {settings['postgres']}, fsync on, the same server for all systems"
    )
    console.print(
        "the shop is loaded at order_service's public port, without the gateway; 1 order in 10 has an Idempotency-Key"
    )
    report.print_speed(console, samples)
    if plan.quick:
        console.print(f"ratio {median(by_round(RATIOS[0], samples)):.2f}")
        return
    report.print_costs(console, samples)
    idle.tell(console, found.resting, plan.idle_seconds)
    report.print_ratios(console, samples)
    reads.tell(console, found.readings)
    if before := runs.earlier(report.NAME):
        report.print_change(console, before, result)
    for path in report.write(result, samples) if plan.kept else []:
        console.print(f"written: {path.relative_to(runs.ROOT)}")
    for page in tables.write() if plan.kept else []:
        console.print(f"written: {page.relative_to(runs.ROOT)}")


if __name__ == "__main__":
    runs.run(main)
