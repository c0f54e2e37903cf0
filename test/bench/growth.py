"""`make bench GROWTH=1`: what becomes of speed and memory when the shop grows, in rows and in replicas.

    for each size: a new shop with so many users, products and stored orders -> warm up, measure, a few times -> table, JSON

Two loads: over everything that there is, and over the first 1,000 users and products of it, which
tells large tables from cold ones. Above 200,000 products order_service does not remember all
prices, so that most orders over everything take a second round.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import load
import runs
from measure import Point, Sample, sample
from ratios import median
from rich.console import Console
from rich.table import Table
from seed import Size
from shop_system import Shop, slots_for

NAME = "growth"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPLICAS = (1, 2, 3)
LOADS = ("spread", "1,000 of each")
ORDERS_PER_SECOND_MAX = 6000
WARM_SECONDS = 2


@dataclass(frozen=True)
class Case:
    """One shop to measure: so many users, so many products and so many stored orders, served by so many of each process."""

    rows: int
    replicas: int

    def loads(self) -> tuple[str, ...]:
        """Return the loads that differ at this size."""
        return LOADS if self.rows > SIZES[0] else LOADS[:1]


@dataclass(frozen=True)
class Grown:
    """What was measured of a case under one load."""

    case: Case
    samples: Sequence[Sample]
    database_mb: float

    def as_json(self) -> dict[str, Any]:
        """Return everything for the result file."""
        speeds = [each.counted.per_second for each in self.samples]
        return {
            "rows": self.case.rows,
            "replicas": self.case.replicas,
            "load": self.samples[0].point.variant,
            "clients": self.samples[0].point.clients,
            "orders_per_second": {
                "median": median(speeds),
                "least": min(speeds),
                "most": max(speeds),
            },
            "p50_ms": median([each.counted.p50_ms for each in self.samples]),
            "p99_ms": median([each.counted.p99_ms for each in self.samples]),
            "not_2xx": sum(each.counted.refused for each in self.samples),
            "lost": sum(each.counted.lost for each in self.samples),
            "cpu_us_per_order": median([sum(each.cpu_us.values()) for each in self.samples]),
            "http_requests_per_order": median([each.http_requests for each in self.samples]),
            "rss_mb": dict(self.samples[-1].rss_mb),
            "database_mb": self.database_mb,
        }


def main() -> None:
    """Measure, and tell what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="for a trial: other numbers of rows"
    )
    parser.add_argument(
        "--replicas",
        type=int,
        nargs="+",
        default=REPLICAS,
        help="for a trial: other numbers of replicas",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    asked = parser.parse_args()
    console = runs.provide_console()
    generator = load.provide()
    cases = [
        *(Case(rows, 1) for rows in asked.sizes),
        *(Case(asked.sizes[0], count) for count in asked.replicas if count > 1),
    ]
    found = [each.as_json() for each in _measured(cases, asked, console)]
    settings = {"generator": generator, "rounds": asked.rounds, "seconds": asked.seconds}
    result = runs.described({"settings": settings, "cases": found})
    _tell(console, found)
    if before := runs.earlier(NAME):
        _tell_change(console, before, result)
    if (tuple(asked.sizes), tuple(asked.replicas)) == (SIZES, REPLICAS):
        console.print(f"written: {runs.write(NAME, result).relative_to(runs.ROOT)}")


def _measured(
    cases: Sequence[Case], asked: argparse.Namespace, console: Console
) -> Iterator[Grown]:
    with runs.progress(console) as progress:
        bar = progress.add_task(
            "starting", total=sum(len(case.loads()) for case in cases) * asked.rounds
        )
        for case in cases:
            progress.update(
                bar, description=f"{case.rows:,} rows, {case.replicas} of each service: filling"
            )
            with runs.folder() as folder:
                shop = _shop(case, asked, folder)
                with shop.running():
                    for each in case.loads():
                        progress.update(
                            bar,
                            description=f"{case.rows:,} rows, {case.replicas} of each service: {each}",
                        )
                        point = Point("shop", each, asked.clients)
                        samples = []
                        for number in range(asked.rounds):
                            samples.append(
                                sample(
                                    shop,
                                    shop.server,
                                    point,
                                    number,
                                    warm_seconds=WARM_SECONDS,
                                    seconds=asked.seconds,
                                )
                            )
                            progress.advance(bar)
                        size = int(shop.server.value("SELECT pg_database_size('shop')")) / 1e6
                        yield Grown(case, samples, size)


def _shop(case: Case, asked: argparse.Namespace, folder: Path) -> Shop:
    slots = slots_for(
        len(LOADS) * asked.rounds * (WARM_SECONDS + asked.seconds) * ORDERS_PER_SECOND_MAX
    )
    size = Size(users=case.rows, products=case.rows, slots=slots, orders=case.rows)
    return Shop(folder, size, 0, clients=(asked.clients,), replicas=case.replicas)


def _tell(console: Console, found: Sequence[dict[str, Any]]) -> None:
    table = Table(title="growth: medians, and the range over the rounds; memory at the end")
    headings = (
        "users, products, orders",
        "replicas",
        "load",
        "orders/s",
        "of the first",
        "p50 ms",
        "p99 ms",
        "CPU us/order",
    )
    for heading in (*headings, "MB by process", "database MB"):
        table.add_column(
            heading, justify="left" if heading in ("load", "MB by process") else "right"
        )
    first = found[0]["orders_per_second"]["median"]
    for each in found:
        speed = each["orders_per_second"]
        table.add_row(
            f"{each['rows']:,}",
            str(each["replicas"]),
            each["load"],
            f"{speed['median']:,.0f} ({speed['least']:,.0f} to {speed['most']:,.0f})",
            f"{speed['median'] / first:.2f}",
            f"{each['p50_ms']:.1f}",
            f"{each['p99_ms']:.1f}",
            f"{each['cpu_us_per_order']:,.0f}",
            ", ".join(f"{name} {size:,.0f}" for name, size in each["rss_mb"].items()),
            f"{each['database_mb']:,.0f}",
        )
    console.print(table)


def _tell_change(console: Console, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare with an earlier run, which must be of the same machine."""
    if not runs.comparable(before, now):
        console.print(runs.ANOTHER_MACHINE)
        return
    known = {_case(each): each["orders_per_second"]["median"] for each in before["cases"]}
    for each in now["cases"]:
        if _case(each) in known:
            was, speed = known[_case(each)], each["orders_per_second"]["median"]
            console.print(f"{_case(each)}: {was:,.0f} orders/s before, now {speed:,.0f}")


def _case(measured: dict[str, Any]) -> str:
    return f"{measured['rows']:,} rows, {measured['replicas']} of each service, {measured['load']}"


if __name__ == "__main__":
    runs.run(main)
