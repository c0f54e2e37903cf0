"""How long modules, functions and packages may be: what does not fit on a page is not read."""

import ast
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 40
#: The chapters of two_phase that are read first, in this order.
FIRST_READING = (
    "messages",
    "coordinator/verdict",
    "coordinator/coordinator",
    "coordinator/remote_participant",
    "participant/participant",
    "participant/branches",
    "participant/recovery",
)
FIRST_READING_LINES_MAX = 1200
PARTICIPANT_SIDE_LINES_MAX = 500
#: Without migrations.
PACKAGE_LINES_MAX = {
    "order_service": 900,
    "payment_service": 350,
    "stock_service": 350,
    "delivery_service": 350,
}

#: Modules and packages that are too long still. A test fails for each that fits by now.
TOO_LONG_MODULES: set[str] = set()
TOO_LONG_PACKAGES = {*PACKAGE_LINES_MAX}

SKIPPED = {"node_modules", "migrations", "build"}

Figure = Callable[[str], None]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _sources() -> Iterator[Path]:
    """Return every module of the project but migrations."""
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [each for each in inner if each[0] != "." and each not in SKIPPED]
        yield from (Path(folder) / each for each in files if each.endswith(".py"))


SOURCES = sorted(_sources())


def _lines(path: Path) -> int:
    return path.read_text().count("\n")


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _own_lines(function: Function) -> int:
    """Count the lines of a function, less those of the functions that it only defines."""
    parts = [function, *(each for each in function.body if isinstance(each, Function))]
    whole, *inner = [(each.end_lineno or each.lineno) - each.lineno + 1 for each in parts]
    return whole - sum(inner)


def test_no_module_is_long(figure: Figure) -> None:
    """A module has one subject."""
    lines = {_named(path): _lines(path) for path in SOURCES}
    longest = max(lines, key=lines.__getitem__)
    figure(f"longest module: {longest}, {lines[longest]} lines (at most {MODULE_LINES_MAX})")

    long_ones = {name for name, count in lines.items() if count > MODULE_LINES_MAX}
    assert long_ones == TOO_LONG_MODULES


def test_no_function_is_long(figure: Figure) -> None:
    """A function fits on a screen."""
    lines = {
        f"{_named(path)}: {node.name}": _own_lines(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, Function)
    }
    longest = max(lines, key=lines.__getitem__)
    figure(f"longest function: {longest}, {lines[longest]} lines (at most {FUNCTION_LINES_MAX})")

    assert {name for name, count in lines.items() if count > FUNCTION_LINES_MAX} == set()


@pytest.mark.parametrize("package", PACKAGE_LINES_MAX)
def test_a_service_is_small(package: str, figure: Figure) -> None:
    """A service is what its trade adds to the protocol and the chassis."""
    lines = sum(_lines(path) for path in SOURCES if path.is_relative_to(ROOT / package))
    most = PACKAGE_LINES_MAX[package]
    figure(f"{package}: {lines} lines (at most {most})")

    assert (lines > most) == (package in TOO_LONG_PACKAGES)


def test_the_first_reading_of_two_phase_is_short(figure: Figure) -> None:
    """The protocol is read in one sitting; its participant side also alone."""
    lines = {name: _lines(ROOT / "two_phase" / f"{name}.py") for name in FIRST_READING}
    side = sum(count for name, count in lines.items() if name.startswith("participant/"))
    whole = sum(lines.values())
    figure(f"first reading of two_phase: {whole} lines (at most {FIRST_READING_LINES_MAX})")
    figure(f"its participant side: {side} lines (at most {PARTICIPANT_SIDE_LINES_MAX})")

    assert whole <= FIRST_READING_LINES_MAX
    assert side <= PARTICIPANT_SIDE_LINES_MAX
