"""The arrows of the tree: which part may import which, and where commits may stand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop import topology

ROOT = Path(__file__).parents[2]
SERVICES = topology.PACKAGES
PACKAGES = ("two_phase", "service_chassis", *SERVICES, "shop")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
WEB = ("fastapi", "starlette", "uvicorn")

#: The parts of two_phase, and the parts of it that each may import beside itself. What two
#: sides share stands in the modules at the top.
SHARED = ("messages", "errors", "crash_points", "metrics", "sql")
PARTS = {
    "messages": (),
    "errors": (),
    "crash_points": (),
    "metrics": ("errors",),
    "sql": ("messages",),
    "coordinator": SHARED,
    "participant": SHARED,
    "http": (*SHARED, "coordinator", "participant"),
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _of(package: str) -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / package)]


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_no_service_imports_another(path: Path) -> None:
    """A service can be built, deployed and understood alone."""
    own = path.relative_to(ROOT).parts[0]

    assert own == "shop" or not _roots(path) & {each for each in SERVICES if each != own}


@pytest.mark.parametrize("path", _of("two_phase"), ids=_named)
def test_coordinator_and_participant_share_only_messages_and_errors(path: Path) -> None:
    """Imports run one way inside two_phase: shared modules, the two sides, then HTTP."""
    part = path.relative_to(ROOT / "two_phase").parts[0].removesuffix(".py")
    inside = {name.split(".")[1] for name in _imports(path) if name.startswith("two_phase.")}

    assert part == "__init__" or inside <= {part, *PARTS[part]}


@pytest.mark.parametrize("path", _of("two_phase"), ids=_named)
def test_two_phase_knows_neither_the_shop_nor_its_chassis(path: Path) -> None:
    """The protocol is usable without this shop, and without HTTP also without a web framework."""
    is_http = path.is_relative_to(ROOT / "two_phase" / "http")

    assert not _roots(path) & {*SERVICES, "shop", "service_chassis"}
    assert is_http or not _roots(path) & {*WEB, "httpx", "aiohttp"}


@pytest.mark.parametrize("path", _of("service_chassis"), ids=_named)
def test_the_chassis_knows_no_service(path: Path) -> None:
    """What every service needs to run is the same for all of them."""
    assert not _roots(path) & {*SERVICES, "shop"}


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_only_the_edges_know_the_web_framework(path: Path) -> None:
    """Business code can be called by a coordinator as well as by a browser."""
    parts = path.relative_to(ROOT).parts
    is_edge = (
        path.stem in {"api", "main"} or parts[0] in {"service_chassis", "shop"} or "http" in parts
    )

    assert is_edge or not _roots(path) & set(WEB)


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_nothing_commits_in_the_middle_of_a_local_transaction(path: Path) -> None:
    """A domain function that commits cannot take part in a two-phase commit."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
    ]

    assert not calls or path.relative_to(ROOT).parts[0] in {"service_chassis", "shop"}


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """The first line of a file says whether to read on."""
    assert ast.get_docstring(ast.parse(path.read_text()))
