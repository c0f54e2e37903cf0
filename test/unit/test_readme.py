"""The documentation is true.

Its commands exist, its links lead somewhere, its map is the tree, its schemas are the code's.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic.json_schema import models_json_schema

from shop.topology import PACKAGES
from two_phase import crash_points
from two_phase.messages import Ballot, Outcomes, Question, Round

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PROTOCOL = ROOT / "two_phase" / "README.md"
INDEX = ROOT / "docs" / "README.md"
TESTS = ROOT / "test" / "README.md"
FAILURES = ROOT / "docs" / "failures.md"
README_LINES_MAX = 150
PAGES = sorted(
    page
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("test/*/README.md"),
        *ROOT.glob("docs/**/*.md"),
    )
    if "node_modules" not in page.parts
)
SERVICE_LINES = range(12, 31)

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`\n]+`")
_INDENTED = re.compile(r"^ {4}\S.*$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A line of a command block that begins with `make`, after variables that are set for it.
_MAKE = re.compile(r"(?:^|&& |[`\n] *)(?:[A-Z_]+=\S+ )*make ([a-z][a-z0-9-]*)")


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _commands(page: Path) -> set[str]:
    """Return the targets that code spans and code blocks of a page make."""
    text = page.read_text()
    parts = [*_FENCE.findall(text), *_INDENTED.findall(text), *_SPAN.findall(_FENCE.sub("", text))]
    return {target for part in parts for target in _MAKE.findall(part)}


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """Return where the links of a page lead, outside of the network: a path and an anchor."""
    text = _SPAN.sub("", _FENCE.sub("", page.read_text()))
    for link in _LINK.findall(text):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def _map() -> set[str]:
    """Return the folders that the README's map names."""
    block = next(block for block in _FENCE.findall(README.read_text()) if "two_phase/ " in block)
    return set(re.findall(r"^([\w.]+/) +\S", block, re.MULTILINE))


def _test_map() -> set[str]:
    """Return the folders of tests that test/README.md names."""
    return {
        f"test/{name}"
        for name in re.findall(r"^\| ([a-z0-9]+/) \|", TESTS.read_text(), re.MULTILINE)
    }


def _folders(parent: Path) -> set[str]:
    """Return the folders in ``parent`` that hold something of the project."""
    return {
        f"{_named(path)}/"
        for path in parent.iterdir()
        if path.is_dir()
        and not path.name.startswith((".", "__"))
        and path.name != "node_modules"
        and not path.name.endswith(".egg-info")
        and any(each.is_file() and "__pycache__" not in each.parts for each in path.rglob("*"))
    }


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    """Who copies a command from the documentation gets what it says."""
    assert _commands(page) <= _targets()


def test_the_readme_names_the_commands_that_matter() -> None:
    """The three ways to begin: see it, run it, test it.

    An empty search for commands is noticed, too.
    """
    assert {"demo", "up", "test"} <= _commands(README)
    assert {"newman", "model"} <= {command for page in PAGES for command in _commands(page)}


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    """A reader is never sent to a file or a heading that is not there."""
    broken = [
        f"{_named(path) if path.is_relative_to(ROOT) else path}#{anchor}"
        for path, anchor in _links(page)
        if not path.exists() or (anchor and anchor not in _anchors(path))
    ]

    assert not broken


def test_the_pages_do_have_links_inside_the_project() -> None:
    """The search for links sees the links that are there."""
    assert {path for path, _ in _links(README)} >= {PROTOCOL, INDEX}
    assert all(list(_links(ROOT / service / "README.md")) for service in PACKAGES)


def test_the_readme_is_read_in_three_minutes() -> None:
    """What does not fit has a page in docs/."""
    lines = len(README.read_text().splitlines())
    print(f"README.md: {lines} lines of {README_LINES_MAX}")  # noqa: T201 - shown with -s

    assert lines <= README_LINES_MAX


def test_the_index_names_every_page_of_the_folder() -> None:
    """No page can only be found by listing the folder."""
    named = {path for path, _ in _links(INDEX)}
    pages = {page for page in INDEX.parent.glob("*.md") if page != INDEX} | {
        INDEX.parent / "adr" / "README.md"
    }

    assert pages - named == set()


def test_the_maps_name_every_folder_and_no_other() -> None:
    """The README maps the tree, test/README.md its own: nothing is missing, nothing is promised."""
    assert _map() == _folders(ROOT)
    assert _test_map() == _folders(ROOT / "test")


@pytest.mark.parametrize("service", PACKAGES)
def test_a_service_is_introduced_on_half_a_page(service: str) -> None:
    """Ten minutes per service begin with some twenty lines, which name every module that is worth reading."""
    page = ROOT / service / "README.md"
    modules = {
        path.name for path in (ROOT / service).glob("*.py") if not path.name.startswith("__")
    }

    assert len(page.read_text().splitlines()) in SERVICE_LINES
    assert modules - {path.name for path, _ in _links(page)} == set()


@pytest.mark.parametrize("page", [FAILURES, PROTOCOL], ids=_named)
def test_the_crash_table_has_every_point_at_which_a_test_kills(page: Path) -> None:
    """'What happens if it dies right there?' is answered for each point that the code names."""
    rows = "\n".join(line for line in page.read_text().splitlines() if line.startswith("|"))

    assert {
        point
        for point in (*crash_points.COORDINATOR_POINTS, *crash_points.PARTICIPANT_POINTS)
        if f"`{point}`" not in rows
    } == set()


def test_the_schemas_on_the_page_are_those_of_the_code() -> None:
    """Who writes a participant in another language reads exactly what the code checks."""
    block = re.search(
        r"^```json schema\n(.*?)^```$", PROTOCOL.read_text(), re.MULTILINE | re.DOTALL
    )
    assert block
    written = json.loads(block[1])["$defs"]
    transaction_id = written.pop("TransactionId")
    _, generated = models_json_schema(
        [(model, "validation") for model in (Round, Ballot, Question, Outcomes)]
    )

    assert _inlined(written, transaction_id) == _bare(generated["$defs"])


def _inlined(node: Any, transaction_id: dict[str, Any]) -> Any:
    if node == {"$ref": "#/$defs/TransactionId"}:
        return transaction_id
    if isinstance(node, dict):
        return {key: _inlined(value, transaction_id) for key, value in node.items()}
    return [_inlined(each, transaction_id) for each in node] if isinstance(node, list) else node


def _bare(node: Any, *, names: bool = True) -> Any:
    """Return a schema without what is only for people and without defaults.

    ``names`` says that the keys are names.
    """
    if isinstance(node, dict):
        left = {
            key: value
            for key, value in node.items()
            if names or key not in ("title", "description", "default")
        }
        return {
            key: _bare(value, names=not names and key == "properties")
            for key, value in left.items()
        }
    return [_bare(each, names=False) for each in node] if isinstance(node, list) else node
