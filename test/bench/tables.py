"""The figures on the pages, from what the runs have written.

    python test/bench/tables.py [--write | --check]

    docs/performance.md    all tables
    README.md              the ratios that matter most

Nothing is copied by hand: --write replaces what stands between the two marks of each page, --check
exits 1 if a page says anything else, and without either the tables are printed. Results of another
machine than that of the main run are left out, with a word about it.
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
import reads
import report
import runs
import soak
from ratios import RATIOS, median

BEGIN, END = "<!-- written by test/bench/tables.py -->", "<!-- until here -->"
SHOWN_CLIENTS = (1, 16, 64, 256)
#: The ratios of the README, and what they are called there.
HEADLINES = {
    "orders/s / bare core, c=64": "orders / rows that a bare endpoint writes, per second, 64 customers",
    "orders/s / bare core, c=256": "the same with 256 customers",
    "orders/s / bare FastAPI, c=256": "orders / answers of FastAPI without a database, 256 customers",
    "orders/s / naive 2PC, c=64": "orders / those of a naive two-phase commit, 64 customers",
    "orders/s / DTM, c=64": "orders / those of DTM (TCC), 64 customers",
    "p50 / bare core p50, c=64": "median wait / that of the bare endpoint, 64 customers",
    "p50 / bare core p50, c=1": "the same with a lone customer",
}

Result = Mapping[str, Any]
Row = Sequence[str]


def main() -> None:
    """Print the tables, put them on the pages, or compare the pages with them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--write", action="store_true", help="replace the figures of both pages")
    doing.add_argument("--check", action="store_true", help="exit 1 if a page has other figures")
    asked = parser.parse_args()
    if asked.check:
        others = stale()
        for page in others:
            sys.stdout.write(f"has other figures: {page.relative_to(runs.ROOT)}\n")
        sys.exit(1 if others else 0)
    if asked.write:
        for page in write():
            sys.stdout.write(f"written: {page.relative_to(runs.ROOT)}\n")
        return
    sys.stdout.write("\n\n".join(_figures().values()) + "\n")


def write() -> list[Path]:
    """Put the figures on the pages that have others; return those."""
    found = stale()
    for page, text in found.items():
        page.write_text(text)
    return list(found)


def stale() -> dict[Path, str]:
    """Return the pages that have other figures than the results, with the text that is due."""
    return {
        page: text
        for page, figures in _figures().items()
        if (text := with_figures(page, figures)) != page.read_text()
    }


def _figures() -> dict[Path, str]:
    results = _results()
    return {
        runs.ROOT / "docs" / "performance.md": "\n\n".join(_blocks(results)),
        runs.ROOT / "README.md": _headlines(results[report.NAME]),
    }


def with_figures(page: Path, figures: str) -> str:
    """Return the text of ``page`` with ``figures`` between its two marks; exits if it has none."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{page} has no lines {BEGIN} and {END}: nothing was written")
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n{figures}\n{END}{text.partition(END)[2]}"


def _results() -> dict[str, Result]:
    """Return what was measured on the machine of the main run."""
    first = runs.earlier(report.NAME)
    if first is None:
        sys.exit("there is no result yet: make bench")
    found = {
        name: result
        for name in (growth.NAME, soak.NAME, overload.NAME)
        if (result := runs.earlier(name))
    }
    strange = [name for name, result in found.items() if not runs.comparable(first, result)]
    for name in strange:
        sys.stderr.write(f"{name} was measured on ANOTHER MACHINE, and is left out\n")
    return {
        report.NAME: first,
        **{name: result for name, result in found.items() if name not in strange},
    }


def _blocks(results: Mapping[str, Result]) -> Iterator[str]:
    first = results[report.NAME]
    yield _where(first)
    yield _table(
        ("orders/s (p50 / p99 ms)", *(f"c={clients}" for clients in SHOWN_CLIENTS)),
        _speeds(first["samples"]),
    )
    yield _table(("ratio, median (range)", "measured", "goal", "stretch"), _ratios(first["ratios"]))
    yield _table(
        ("the shop, per order", *(f"c={clients}" for clients in SHOWN_CLIENTS)),
        _costs(first["samples"]),
    )
    if first.get("idle"):
        limits = (
            f"under {idle.CPU_PERCENT_MAX:g} % of a core and {idle.RSS_MB_MAX:g} MB for a service"
        )
        yield _table((f"at rest ({limits})", "% of a core", "MB"), _resting(first["idle"]))
    if readings := first.get("reads"):
        yield _table(reads.headings(readings), reads.rows(readings))
    if growth.NAME in results:
        yield _table(
            (
                "users, products, stored orders",
                "replicas",
                "load",
                "orders/s",
                "p99 ms",
                "order_service MB",
            ),
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


def _headlines(first: Result) -> str:
    """Return the short table of the README."""
    rows = [
        (
            said,
            f"{found['median']:.2f}",
            f"{'at most' if ratio.at_most else 'at least'} {ratio.goal:g}",
        )
        for ratio in RATIOS
        if (said := HEADLINES.get(ratio.label)) and (found := first["ratios"].get(ratio.label))
    ]
    return _table(("ratio", "measured", "goal"), rows)


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
    speed, p50, p99 = (
        median([each[name] for each in group]) for name in ("orders_per_second", "p50_ms", "p99_ms")
    )
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
            median([value(each) for each in spread[clients]]) if clients in spread else None
            for clients in SHOWN_CLIENTS
        ]
        return (label, *("" if cell is None else f"{cell:,.{digits}f}" for cell in cells))

    processes = (
        samples[0]["cpu_us_per_order"]
        if not spread
        else next(iter(spread.values()))[0]["cpu_us_per_order"]
    )
    return [
        line("forced writes", 2, lambda each: each["forced_writes_per_order"]),
        line("HTTP requests", 2, lambda each: each["http_requests_per_order"]),
        line("CPU, us", 0, lambda each: sum(each["cpu_us_per_order"].values())),
        *(
            line(f"CPU of {name}, us", 0, lambda each, name=name: each["cpu_us_per_order"][name])
            for name in processes
        ),
    ]


def _resting(found: Mapping[str, Result]) -> list[Row]:
    return [
        (name, f"{each['cpu_percent']:.2f}", f"{each['rss_mb']:.0f}")
        for name, each in found.items()
    ]


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
