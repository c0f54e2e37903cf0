"""What all runs share: a console, a bar, a folder on the right disk, and results that know on which machine they were measured."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import psycopg2
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = ROOT / ".data" / "bench"
RESULTS = HERE / "results"
TABLE_WIDTH = 160
ANOTHER_MACHINE = "The run before was made on ANOTHER MACHINE: its numbers say nothing about these, and are not compared."


class Miscounted(Exception):
    """Something that was counted twice was counted differently.

    The measurement is worth nothing.
    """


def provide_console() -> Console:
    """Return where a run tells what it does.

    A file or a pipe has no width of its own, and the tables need one.
    """
    return Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)


def progress(console: Console) -> Progress:
    """Return a bar that counts measurements."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder on the disk of the repository (a temporary one may be in memory, where a flush costs nothing)."""
    DATA.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=DATA))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def earlier(name: str) -> dict[str, Any] | None:
    """Return the result of the last run that was written under ``name``."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def described(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``result`` with the machine on which it was measured."""
    return {"machine": machine.described(), **result}


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write a result, which says its machine, and return where it is."""
    assert "machine" in result
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two results were measured on the same machine."""
    return bool(one["machine"]["fingerprint"] == other["machine"]["fingerprint"])


def run(main: Callable[[], None]) -> None:
    """Run ``main``, and say in a sentence why it could not measure."""
    try:
        main()
    except Miscounted as wrong:
        sys.exit(f"NOTHING OF THIS RUN COUNTS: {wrong}")
    except (RuntimeError, psycopg2.Error) as failure:
        sys.exit(f"the benchmark has failed: {failure}")
