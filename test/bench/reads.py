"""How fast the shop is read, beside a bare GET of one row.

`make bench READS=1` measures nothing else.

    for each round, in each state: the bare GET and each page of the shop in turn, c = 64 -> table, JSON

Vacuum is off for the tables of branches, so that each state is what it is called: at rest after a
vacuum, beside orders from as many clients, and at rest again with what these have left behind.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import load
import runs
import usage
from ratios import median
from rich.console import Console
from rich.table import Table
from seed import Size
from shop_system import Shop, slots_for
from systems import PARTICIPANTS, Comparison, Program

BARE = "bare GET"
CLIENTS = 64
GOAL = 0.8
RESTING, ORDERING, UNVACUUMED = "at rest", "beside orders", "at rest, not vacuumed"
STATES = (RESTING, ORDERING, UNVACUUMED)
WARM_SECONDS = 1
#: So many different rows are read of each kind.
ROWS = 1000
ORDERS_PER_SECOND_MAX = 4000
_ORDERS = "SELECT string_agg(transaction_id::text, ' ') FROM (SELECT * FROM order_service.orders LIMIT 1000) AS few"


@dataclass(frozen=True)
class Target:
    """Something to read: the file has its paths."""

    name: str
    url: str
    paths: Path
    pid: int


@dataclass(frozen=True)
class Reading:
    """One measurement; ``orders_per_second`` is what was ordered meanwhile."""

    target: str
    state: str
    round: int
    counted: load.Counted
    orders_per_second: float = 0
    #: Microseconds of processor time per read, its process and PostgreSQL; beside orders theirs
    #: too.
    cpu_us: float = 0

    def as_json(self) -> dict[str, Any]:
        """Return everything for the result file."""
        return {**asdict(self), "reads_per_second": self.counted.per_second}


def bare_get(database_url: str, folder: Path) -> Comparison:
    """Return the comparison."""
    programs = [Program("app", "comparisons.bare_read")]
    return Comparison(BARE, programs, database_url, None, clients=(CLIENTS,), folder=folder)


def slots_needed(rounds: int, seconds: int) -> int:
    """Return how many slots to have.

    Enough for all orders, and not fewer than accounts or products.
    """
    ordering_seconds = rounds * (len(PARTICIPANTS) + 2) * (2 * WARM_SECONDS + seconds)
    return max(ROWS, slots_for(ordering_seconds * ORDERS_PER_SECOND_MAX))


def measured(
    shop: Shop,
    bare: Comparison,
    folder: Path,
    *,
    rounds: int,
    seconds: int,
    states: Sequence[str] = STATES,
) -> Iterator[Reading]:
    """Measure everything ``rounds`` times."""
    _vacuum_by_hand(shop)
    load.send(shop.url, shop.variants["spread"](), clients=CLIENTS, seconds=WARM_SECONDS)
    with bare.running():
        targets = _targets(shop, bare, folder)
        for number in range(rounds):
            for state in states:
                if state == RESTING:
                    shop.server.run("VACUUM ANALYZE")
                for target in (*targets[number:], *targets[:number]):
                    yield _reading(shop, target, state, number, seconds)


def _vacuum_by_hand(shop: Shop) -> None:
    for each in PARTICIPANTS:
        shop.server.run(f"ALTER TABLE {each}_service.branches SET (autovacuum_enabled = off)")


def _targets(shop: Shop, bare: Comparison, folder: Path) -> list[Target]:
    ids = [str(number) for number in range(1, ROWS + 1)]
    order_ids = str(shop.server.value(_ORDERS)).split()
    asked = [
        ("account", "payment", "/payment/users/", ids),
        ("product", "stock", "/stock/products/", ids),
        ("slot", "delivery", "/delivery/slots/", ids),
        ("order", "order", "/orders/", order_ids),
    ]
    pids = shop.pids()
    return [
        Target(
            BARE, bare.url, _written(folder / "bare.paths", "/accounts/", ids), bare.pids()["app"]
        ),
        *(
            Target(
                name,
                shop.address(service),
                _written(folder / f"{name}.paths", prefix, of),
                pids[service],
            )
            for name, service, prefix, of in asked
        ),
    ]


def _written(file: Path, prefix: str, ids: Sequence[str]) -> Path:
    file.write_text("".join(f"{prefix}{each}\n" for each in ids))
    return file


def _reading(shop: Shop, target: Target, state: str, number: int, seconds: int) -> Reading:
    with ExitStack() as stack:
        orders = None
        if state == ORDERING:
            # They begin with the warm-up, and end after what is measured.
            spread, lasting = shop.variants["spread"](), seconds + 2 * WARM_SECONDS
            pool = stack.enter_context(ThreadPoolExecutor(1))
            orders = pool.submit(load.send, shop.url, spread, clients=CLIENTS, seconds=lasting)
        load.read(target.url, target.paths, clients=CLIENTS, seconds=WARM_SECONDS)
        before = _cpu_seconds(shop, target)
        counted = load.read(target.url, target.paths, clients=CLIENTS, seconds=seconds)
        used = _cpu_seconds(shop, target) - before
        ordered = orders.result().per_second if orders else 0
    if counted.refused or counted.lost:
        raise runs.Miscounted(
            f"{target.name} {state}: {counted.refused} refused, {counted.lost} lost"
        )
    return Reading(target.name, state, number, counted, ordered, used / counted.requests * 1e6)


def _cpu_seconds(shop: Shop, target: Target) -> float:
    return usage.cpu_seconds(target.pid) + usage.cpu_seconds_of_family(shop.server.pid)


def ratios(readings: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return what was read per second over what the bare GET did in the same state and round."""
    speeds = {
        (each["target"], each["state"], each["round"]): each["reads_per_second"]
        for each in readings
    }
    found: dict[str, dict[str, list[float]]] = {}
    for (target, state, number), speed in speeds.items():
        if target != BARE:
            of_state = found.setdefault(target, {}).setdefault(state, [])
            of_state.append(speed / speeds[BARE, state, number])
    return found


def shown(values: Sequence[float]) -> str:
    """Return the median and the range."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def headings(readings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the headings of a table of them."""
    return [f"GET, c={CLIENTS}", *dict.fromkeys(each["state"] for each in readings)]


def rows(readings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the speeds, and the ratios with their goal."""
    _, *states = headings(readings)
    targets = dict.fromkeys(each["target"] for each in readings)
    speeds = [
        [target, *(_speed(readings, target, state) for state in states)] for target in targets
    ]
    goal = f"(at least {GOAL:g})"
    by_target = ratios(readings).items()
    return speeds + [
        [f"{target} / {BARE} {goal}", *(shown(of[state]) for state in states)]
        for target, of in by_target
    ]


def tell(console: Console, readings: Sequence[Mapping[str, Any]]) -> None:
    """Show them, if they were measured."""
    if not readings:
        return
    table = Table(
        title="reads/s; in brackets the processor time per read, or the orders/s meanwhile"
    )
    first, *others = headings(readings)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    for row in rows(readings):
        table.add_row(*row)
    console.print(table)


def _speed(readings: Sequence[Mapping[str, Any]], target: str, state: str) -> str:
    of = [each for each in readings if (each["target"], each["state"]) == (target, state)]
    speed, orders, cpu_us = (
        median([each[name] for each in of])
        for name in ("reads_per_second", "orders_per_second", "cpu_us")
    )
    return f"{speed:,.0f}" + (f" ({orders:,.0f} orders/s)" if orders else f" ({cpu_us:,.0f} us)")


def main() -> None:
    """Measure the reads alone; nothing is written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--states", nargs="+", choices=STATES, default=STATES)
    asked = parser.parse_args()
    console = runs.provide_console()
    load.provide()
    with runs.folder() as folder:
        size = Size(ROWS, ROWS, slots_needed(asked.rounds, asked.seconds))
        shop = Shop(folder, size, 0, clients=(CLIENTS,))
        with shop.running(), console.status("reading"):
            bare = bare_get(shop.comparisons_url, folder)
            found = measured(
                shop, bare, folder, rounds=asked.rounds, seconds=asked.seconds, states=asked.states
            )
            readings = [each.as_json() for each in found]
    tell(console, readings)


if __name__ == "__main__":
    runs.run(main)
