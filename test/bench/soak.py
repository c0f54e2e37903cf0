"""`make bench SOAK=minutes`.

Full load for so long, and what becomes of memory and of the slowest answers meanwhile.

    warm up for a minute -> for each minute: load, p99, memory of every process a few times -> table, JSON, two verdicts

The last quarter of the run is held against its first: memory of each service by at most 10 %, p99
by at most 1.5 times. PostgreSQL's memory is shown and not judged, because it fills its buffers by
design.
"""

import argparse
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import load
import runs
import usage
from load import Counted, send
from ratios import median
from rich.console import Console
from rich.table import Table
from seed import Size
from shop_system import Shop, slots_for

NAME = "soak"
MINUTES = 10
CLIENTS = 256
MEMORY_GROWTH_MAX, P99_GROWTH_MAX = 1.10, 1.5
SAMPLE_SECONDS = 2.0
#: On the average of a run; more than what was ever measured.
ORDERS_PER_SECOND_MAX = 5000


@dataclass(frozen=True)
class Interval:
    """A minute under load."""

    counted: Counted
    #: Megabytes of resident memory by process, the median over the minute.
    memory_mb: Mapping[str, float]


@dataclass
class Watch:
    """Reads the memory of some processes again and again while a block runs."""

    read: Callable[[], Mapping[str, float]]
    readings: list[Mapping[str, float]] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read until the end of the block, and once more."""
        over = threading.Event()
        thread = threading.Thread(target=self._until, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _until(self, over: threading.Event) -> None:
        while True:
            self.readings.append(self.read())
            if over.wait(SAMPLE_SECONDS):
                return

    def medians(self) -> dict[str, float]:
        """Return the median of each process."""
        return {name: median([each[name] for each in self.readings]) for name in self.readings[0]}


def main() -> None:
    """Load, and tell what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=MINUTES)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument(
        "--interval",
        type=int,
        default=60,
        help="for a trial: seconds instead of a minute, and nothing is written",
    )
    asked = parser.parse_args()
    console = runs.provide_console()
    generator = load.provide()
    slots = slots_for((asked.minutes + 1) * asked.interval * ORDERS_PER_SECOND_MAX)
    with runs.folder() as folder:
        shop = Shop(folder, Size(1000, 1000, slots), 0, clients=(asked.clients,))
        with shop.running():
            intervals = list(_intervals(shop, asked, console))
    settings = {
        "generator": generator,
        "minutes": asked.minutes,
        "clients": asked.clients,
        "interval_seconds": asked.interval,
    }
    growth = grown(intervals)
    result = runs.described(
        {"settings": settings, "growth": growth, "minutes": [_as_json(each) for each in intervals]}
    )
    _tell(console, intervals, growth)
    if (before := runs.earlier(NAME)) and not runs.comparable(before, result):
        console.print(runs.ANOTHER_MACHINE)
    elif before:
        console.print(f"the run before: {sentence(before['growth'])}")
    if asked.interval == 60:
        console.print(f"written: {runs.write(NAME, result).relative_to(runs.ROOT)}")


def _intervals(shop: Shop, asked: argparse.Namespace, console: Console) -> Iterator[Interval]:
    """Measure minute by minute, after one that does not count."""
    with runs.progress(console) as progress:
        bar = progress.add_task("warming up", total=asked.minutes + 1)
        for minute in range(asked.minutes + 1):
            watch = Watch(lambda: _memory(shop))
            with watch.watching():
                counted = send(
                    shop.url,
                    shop.variants["spread"](),
                    clients=asked.clients,
                    seconds=asked.interval,
                )
            if minute:
                yield Interval(counted, watch.medians())
            progress.update(
                bar,
                advance=1,
                description=f"{counted.per_second:,.0f} orders/s, p99 {counted.p99_ms:,.0f} ms",
            )


def _memory(shop: Shop) -> dict[str, float]:
    services = {name: usage.rss_mb(pid) for name, pid in shop.pids().items()}
    return {**services, "postgres": usage.proportional_mb_of_family(shop.server.pid)}


def grown(intervals: Sequence[Interval]) -> dict[str, float]:
    """Return how much the last quarter of a run is above its first, as factors.

    Of p99, and of the memory of each process.
    """
    quarter = max(1, len(intervals) // 4)
    first, last = intervals[:quarter], intervals[-quarter:]

    def factor(value: Callable[[Interval], float]) -> float:
        return median([value(each) for each in last]) / median([value(each) for each in first])

    def memory(name: str) -> float:
        return factor(lambda each: each.memory_mb[name])

    return {
        "p99": factor(lambda each: each.counted.p99_ms),
        **{name: memory(name) for name in intervals[0].memory_mb},
    }


def _as_json(interval: Interval) -> dict[str, Any]:
    counted = interval.counted
    return {
        "orders_per_second": counted.per_second,
        "p50_ms": counted.p50_ms,
        "p99_ms": counted.p99_ms,
        "not_2xx": counted.refused,
        "lost": counted.lost,
        "memory_mb": dict(interval.memory_mb),
    }


def _tell(console: Console, intervals: Sequence[Interval], growth: Mapping[str, float]) -> None:
    processes = list(intervals[0].memory_mb)
    table = Table(title="minute by minute; memory in MB, of PostgreSQL with all its backends")
    for heading in ("minute", "orders/s", "p50 ms", "p99 ms", "not 2xx", "lost", *processes):
        table.add_column(heading, justify="right")
    for minute, each in enumerate(intervals, 1):
        counted = each.counted
        numbers = (
            counted.per_second,
            counted.p50_ms,
            counted.p99_ms,
            counted.refused,
            counted.lost,
        )
        table.add_row(
            str(minute), *(f"{number:,.0f}" for number in (*numbers, *each.memory_mb.values()))
        )
    console.print(table)
    console.print(sentence(growth))


def sentence(growth: Mapping[str, float]) -> str:
    """Return the two verdicts."""
    services = {name: factor for name, factor in growth.items() if name not in ("p99", "postgres")}
    name, most = max(services.items(), key=lambda item: item[1])
    memory = "kept" if most <= MEMORY_GROWTH_MAX else "MISSED"
    p99 = "kept" if growth["p99"] <= P99_GROWTH_MAX else "MISSED"
    return (
        f"last quarter / first: memory of {name}, which grew most, {most:.2f} (at most {MEMORY_GROWTH_MAX:g}: {memory}),"
        f" p99 {growth['p99']:.2f} (at most {P99_GROWTH_MAX:g}: {p99}), PostgreSQL's memory {growth['postgres']:.2f}"
    )


if __name__ == "__main__":
    runs.run(main)
