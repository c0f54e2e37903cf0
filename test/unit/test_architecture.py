"""The arrows of the tree: who may import whom, where commits may stand, and how long a thing may grow."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("order_service", "payment_service", "stock_service", "delivery_service")
PACKAGES = ("two_phase", "service_chassis", *SERVICES, "shop")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

#: Which modules of two_phase each module of two_phase may import.
ARROWS = {
    "protocol": set(),
    "faults": set(),
    "gathering": set(),
    "group": set(),
    "metrics": {"protocol"},
    "coordinator": {"protocol"},
    "decision_log": {"protocol", "coordinator"},
    "statements": set(),
    "counters": {"statements"},
    "branches": {"protocol", "counters", "statements"},
    "client": {"protocol"},
    "lane": {"protocol", "faults", "metrics"},
    "restores": {"protocol", "decision_log", "lane", "metrics"},
    "engine": {
        "protocol",
        "coordinator",
        "decision_log",
        "gathering",
        "lane",
        "restores",
        "faults",
        "metrics",
    },
    "recording": {"protocol", "branches"},
    "pieces": {"protocol", "counters", "metrics"},
    "participant": {"protocol", "branches", "counters", "recording", "pieces", "faults", "metrics"},
    "recovery": {"protocol", "branches", "counters", "participant", "faults", "metrics"},
    "reconciliation": {"protocol", "decision_log"},
    "records": {"protocol"},
    "router": {
        "protocol",
        "branches",
        "client",
        "decision_log",
        "participant",
        "reconciliation",
        "records",
        "recovery",
    },
}
FUNCTION_LINES_MAX = 40
MODULE_LINES_MAX = 300


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _own_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function, less those of the functions that it only defines."""
    inner = [
        child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return _lines(node) - sum(_lines(child) for child in inner)


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_no_service_imports_another(path: Path) -> None:
    """A service can be built, deployed and understood alone."""
    own = path.relative_to(ROOT).parts[0]

    foreign = {
        name
        for name in _imports(path)
        if name.split(".")[0] in SERVICES and name.split(".")[0] != own
    }

    assert own == "shop" or not foreign


@pytest.mark.parametrize("path", sorted((ROOT / "two_phase").glob("*.py")), ids=_named)
def test_the_protocol_knows_neither_the_shop_nor_what_hosts_it(path: Path) -> None:
    """Imports run one way: protocol <- the rest of two_phase <- hosting <- a service."""
    imported = set(_imports(path))
    inside = {name.split(".")[1] for name in imported if name.startswith("two_phase.")}

    assert not {name for name in imported if name.split(".")[0] in (*SERVICES, "shop")}
    assert inside <= ARROWS.get(path.stem, set())


@pytest.mark.parametrize("path", sorted((ROOT / "two_phase" / "hosting").glob("*.py")), ids=_named)
def test_hosting_knows_no_service(path: Path) -> None:
    """What every service needs to run is the same for all of them."""
    assert not {name for name in _imports(path) if name.split(".")[0] in (*SERVICES, "shop")}


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_only_hosting_and_the_edges_know_the_web_framework(path: Path) -> None:
    """Business code can be called by a coordinator as well as by a browser."""
    relative = path.relative_to(ROOT)
    at_the_edge = (
        path.stem in {"router", "api", "main"}
        or "hosting" in relative.parts
        or relative.parts[0] == "shop"
    )

    assert at_the_edge or not {
        name for name in _imports(path) if name.split(".")[0] in ("fastapi", "starlette", "uvicorn")
    }


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_only_the_client_knows_what_carries_its_requests(path: Path) -> None:
    """Everything else speaks httpx, whose errors say whether another replica may be asked."""
    assert path.name == "client.py" or not {
        name for name in _imports(path) if name.split(".")[0] == "aiohttp"
    }


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_nobody_commits_in_the_middle_of_a_local_transaction(path: Path) -> None:
    """A domain function that commits cannot take part in a two-phase commit."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
    ]

    assert not calls or "hosting" in path.parts or path.is_relative_to(ROOT / "shop")


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_modules_and_functions_stay_short_and_say_what_they_are_for(path: Path) -> None:
    """What does not fit on a page is read by nobody."""
    source = path.read_text()
    tree = ast.parse(source)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    long_ones = [node.name for node in functions if _own_lines(node) > FUNCTION_LINES_MAX]

    assert ast.get_docstring(tree)
    assert source.count("\n") <= MODULE_LINES_MAX
    assert not long_ones
