"""The application of another trade: what of it two_phase/README.md shows, how long it is, what it leans on."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "trip"
LINES_MAX = {"coordinator": 60, "flight": 20, "hotel": 20, "car": 20}


@pytest.mark.parametrize("name", LINES_MAX)
def test_the_page_shows_the_example_and_it_is_short(
    name: str, figure: Callable[[str], None]
) -> None:
    """What the page promises: a coordinator in sixty lines, a participant in twenty, without tables."""
    source = (EXAMPLE / f"{name}.py").read_text()
    lines = sum(1 for line in source.splitlines() if line.strip())
    figure(f"examples/trip/{name}.py: {lines} lines (at most {LINES_MAX[name]})")

    assert lines <= LINES_MAX[name]
    if name in ("coordinator", "flight"):
        page = (ROOT / "two_phase" / "README.md").read_text()
        assert source in re.findall(r"^```python trip\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_example_takes_nothing_from_the_shop() -> None:
    """Who has another trade needs two_phase and the chassis, and no service of ours."""
    sources = "".join(path.read_text() for path in EXAMPLE.glob("*.py"))

    assert not re.findall(r"(?:from|import) (?:shop|\w+_service)\b", sources)
