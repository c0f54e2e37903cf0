"""Tells the result: a table for people, JSON for the next run, two charts for docs/performance.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import runs
from chart import Lines, Value, drawn
from measure import Point, Sample
from ratios import RATIOS, by_round, median
from rich.console import Console
from rich.table import Table

NAME = "result"


def _points(samples: Sequence[Sample]) -> dict[Point, list[Sample]]:
    grouped: dict[Point, list[Sample]] = {}
    for each in samples:
        grouped.setdefault(each.point, []).append(each)
    return dict(
        sorted(
            grouped.items(),
            key=lambda item: (
                item[0].system != "shop",
                item[0].system,
                item[0].variant,
                item[0].clients,
            ),
        )
    )


def _range(values: Sequence[float], digits: int = 0) -> str:
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _bare(values: Sequence[float]) -> str:
    return f"{median(values):,.1f}"


def print_speed(console: Console, samples: Sequence[Sample]) -> None:
    """Show how fast each system was."""
    table = Table(title="orders/s and latency: medians, and the range over the rounds")
    for heading in ("system", "load", "c", "orders/s", "p50 ms", "p99 ms", "not 2xx", "lost"):
        table.add_column(heading, justify="left" if heading in ("system", "load") else "right")
    for point, group in _points(samples).items():
        table.add_row(
            point.system,
            point.variant,
            str(point.clients),
            _range([each.counted.per_second for each in group]),
            _range([each.counted.p50_ms for each in group], 1),
            _range([each.counted.p99_ms for each in group], 1),
            str(sum(each.counted.refused for each in group)),
            str(sum(each.counted.lost for each in group)),
        )
    console.print(table)


def print_costs(console: Console, samples: Sequence[Sample]) -> None:
    """Show what an order cost on each system."""
    table = Table(title="per confirmed order (medians); memory at the end of the measurement")
    for heading in (
        "system",
        "load",
        "c",
        "forced writes",
        "HTTP requests",
        "CPU us",
        "CPU us by process",
        "MB by process",
    ):
        table.add_column(
            heading, justify="left" if heading in ("system", "load") or "by" in heading else "right"
        )
    for point, group in _points(samples).items():
        table.add_row(
            point.system,
            point.variant,
            str(point.clients),
            f"{median([each.forced_writes for each in group]):.2f}",
            f"{median([each.http_requests for each in group]):.2f}",
            f"{median([sum(each.cpu_us.values()) for each in group]):,.0f}",
            _each([each.cpu_us for each in group]),
            _each([each.rss_mb for each in group]),
        )
    console.print(table)


def _each(readings: Sequence[Mapping[str, float]]) -> str:
    return ", ".join(
        f"{name} {median([each[name] for each in readings]):,.0f}" for name in readings[0]
    )


def print_ratios(console: Console, samples: Sequence[Sample]) -> None:
    """Show how far the shop got on each goal."""
    table = Table(title="the shop against the others, round by round")
    for heading in ("ratio", "median (range)", "goal", "stretch", "reached"):
        table.add_column(heading, justify="left" if heading == "ratio" else "right")
    for ratio in RATIOS:
        values = by_round(ratio, samples)
        if values:
            sign = "<=" if ratio.at_most else ">="
            goals = (f"{sign} {ratio.goal:g}", f"{sign} {ratio.stretch:g}")
            table.add_row(ratio.label, _range(values, 2), *goals, ratio.reached(median(values)))
    console.print(table)


def as_json(samples: Sequence[Sample], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole run."""
    ratios = {
        ratio.label: {
            "median": median(values),
            "rounds": values,
            "goal": ratio.goal,
            "stretch": ratio.stretch,
        }
        for ratio in RATIOS
        if (values := by_round(ratio, samples))
    }
    return {
        "settings": settings,
        "ratios": ratios,
        "samples": [each.as_json() for each in samples],
    }


def write(result: Mapping[str, Any], samples: Sequence[Sample]) -> list[Path]:
    """Write the result and the charts; return where they are."""
    charts = {
        "orders.svg": drawn("Orders per second", "orders/s", _lines(samples, "per_second")),
        "p99.svg": drawn("99 of 100 answers come within", "p99, ms", _lines(samples, "p99_ms")),
    }
    path = runs.write(NAME, result)
    for name, content in charts.items():
        (runs.RESULTS / name).write_text(content)
    return [path, *(runs.RESULTS / name for name in charts)]


def _lines(samples: Sequence[Sample], attribute: str) -> Lines:
    lines: dict[str, dict[int, Value]] = {}
    for point, group in _points(samples).items():
        values = [float(getattr(each.counted, attribute)) for each in group]
        name = f"shop, {point.variant}" if point.system == "shop" else point.system
        lines.setdefault(name, {})[point.clients] = Value(median(values), min(values), max(values))
    return lines


def print_change(console: Console, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare with an earlier run, which must be of the same machine."""
    if not runs.comparable(before, now):
        console.print(runs.ANOTHER_MACHINE)
        return
    table = Table(title="against the run before, on the same machine")
    for heading in ("ratio", "before", "now"):
        table.add_column(heading, justify="left" if heading == "ratio" else "right")
    for label, ratio in now["ratios"].items():
        if label in before["ratios"]:
            table.add_row(
                label, _bare([before["ratios"][label]["median"]]), _bare([ratio["median"]])
            )
    console.print(table)
