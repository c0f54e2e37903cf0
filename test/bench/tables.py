"""The tables of the README, from what the runs have written: python test/bench/tables.py [--into README.md].

Nothing is copied by hand. With --into, what stands between the two marks of that file is replaced. Results of another machine than
that of the main run are left out, with a word about it.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import growth
import idle
import overload
import report
import runs
import soak
from ratios import RATIOS, median

BEGIN, END = "<!-- written by test/bench/tables.py -->", "<!-- until here -->"
SHOWN_CLIENTS = (1, 16, 64, 256)

Result = Mapping[str, Any]
Row = Sequence[str]


def main() -> None:
    """Print the tables, or put them into a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="a file with the two marks")
    into = parser.parse_args().into
    written = "\n\n".join(_blocks(_results()))
    if into is None:
        sys.stdout.write(written + "\n")
        return
    text = into.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{into} has no lines {BEGIN} and {END}: nothing was written")
    into.write_text(f"{text.partition(BEGIN)[0]}{BEGIN}\n{written}\n{END}{text.partition(END)[2]}")


def _results() -> dict[str, Result]:
    """Return what was measured on the machine of the main run."""
    first = runs.earlier(report.NAME)
    if first is None:
        sys.exit("there is no result yet: make bench")
    found = {name: result for name in (growth.NAME, soak.NAME, overload.NAME) if (result := runs.earlier(name))}
    strange = [name for name, result in found.items() if not runs.comparable(first, result)]
    for name in strange:
        sys.stderr.write(f"{name} was measured on ANOTHER MACHINE, and is left out\n")
    return {report.NAME: first, **{name: result for name, result in found.items() if name not in strange}}


def _blocks(results: Mapping[str, Result]) -> Iterator[str]:
    first = results[report.NAME]
    yield _where(first)
    yield _table(("orders/s (p50 / p99 ms)", *(f"c={clients}" for clients in SHOWN_CLIENTS)), _speeds(first["samples"]))
    yield _table(("ratio, median (range)", "measured", "goal", "stretch"), _ratios(first["ratios"]))
    yield _table(("the shop, per order", *(f"c={clients}" for clients in SHOWN_CLIENTS)), _costs(first["samples"]))
    if first.get("idle"):
        limits = f"under {idle.CPU_PERCENT_MAX:g} % of a core and {idle.RSS_MB_MAX:g} MB for a service"
        yield _table((f"at rest ({limits})", "% of a core", "MB"), _resting(first["idle"]))
    if growth.NAME in results:
        yield _table(
            ("users, products, stored orders", "replicas", "load", "orders/s", "p99 ms", "order_service MB"),
            _grown(results[growth.NAME]),
        )
    if soak.NAME in results:
        minutes = results[soak.NAME]["settings"]["minutes"]
        yield f"{minutes} minutes of full load: {soak.sentence(results[soak.NAME]['growth'])}."
    if overload.NAME in results:
        yield f"Three times the load that it can serve: {overload.sentence(results[overload.NAME]['verdicts'])}."


def _where(first: Result) -> str:
    machine, settings = first["machine"], first["settings"]
    return (
        f"{settings['rounds']} interleaved rounds of {settings['seconds']} s; {machine['cpu']}, {machine['cores']} cores,"
        f" {machine['memory_gib']} GiB, PostgreSQL {settings['postgres'].split()[0]} with fsync on, Python {machine['python']};"
        f" load by {settings['generator']} on the same machine."
    )


def _table(headings: Row, rows: Sequence[Row]) -> str:
    aligned = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, aligned, *rows))


def _points(samples: Sequence[Result]) -> dict[tuple[str, str], dict[int, list[Result]]]:
    """Return the samples of each system under each load, by the number of clients."""
    points: dict[tuple[str, str], dict[int, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for each in samples:
        points[each["system"], each["variant"]][each["clients"]].append(each)
    return points


def _speeds(samples: Sequence[Result]) -> list[Row]:
    points = sorted(_points(samples).items(), key=lambda item: (item[0][0] != "shop", item[0]))
    return [
        (
            f"{system}, {variant}" if system == "shop" else system,
            *(_speed(of[clients]) if clients in of else "" for clients in SHOWN_CLIENTS),
        )
        for (system, variant), of in points
    ]


def _speed(group: Sequence[Result]) -> str:
    speed, p50, p99 = (median([each[name] for each in group]) for name in ("orders_per_second", "p50_ms", "p99_ms"))
    return f"{speed:,.0f} ({p50:,.0f} / {p99:,.0f})"


def _ratios(measured: Mapping[str, Result]) -> list[Row]:
    rows = []
    for ratio in RATIOS:
        if found := measured.get(ratio.label):
            sign = "at most" if ratio.at_most else "at least"
            least, most = min(found["rounds"]), max(found["rounds"])
            value = f"{found['median']:.2f} ({least:.2f} to {most:.2f})"
            rows.append((ratio.label, value, f"{sign} {ratio.goal:g}", f"{ratio.stretch:g}"))
    return rows


def _costs(samples: Sequence[Result]) -> list[Row]:
    spread = _points(samples)["shop", "spread"]

    def line(label: str, digits: int, value: Any) -> Row:
        cells = [
            median([value(each) for each in spread[clients]]) if clients in spread else None for clients in SHOWN_CLIENTS
        ]
        return (label, *("" if cell is None else f"{cell:,.{digits}f}" for cell in cells))

    processes = samples[0]["cpu_us_per_order"] if not spread else next(iter(spread.values()))[0]["cpu_us_per_order"]
    return [
        line("forced writes", 2, lambda each: each["forced_writes_per_order"]),
        line("HTTP requests", 2, lambda each: each["http_requests_per_order"]),
        line("CPU, us", 0, lambda each: sum(each["cpu_us_per_order"].values())),
        *(line(f"CPU of {name}, us", 0, lambda each, name=name: each["cpu_us_per_order"][name]) for name in processes),
    ]


def _resting(found: Mapping[str, Result]) -> list[Row]:
    return [(name, f"{each['cpu_percent']:.2f}", f"{each['rss_mb']:.0f}") for name, each in found.items()]


def _grown(result: Result) -> list[Row]:
    return [
        (
            f"{each['rows']:,}",
            str(each["replicas"]),
            each["load"],
            f"{each['orders_per_second']['median']:,.0f}",
            f"{each['p99_ms']:,.0f}",
            f"{each['rss_mb']['order']:,.0f}",
        )
        for each in result["cases"]
    ]


if __name__ == "__main__":
    main()
