"""The figures on the pages are those of the runs; the tool that writes them writes nothing else."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.broken import BROKEN
from shop.conformance.runner import RULES
from simulation.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "test" / "bench" / "tables.py"
PAGES = ("README.md", "docs/performance.md")
#: Where a copy of the pages is written to: the tool finds them beside its own folder.
COPIED = (*PAGES, "test/bench")
_MEASURED = re.compile(r"\| (\d+\.\d\d) \|")


def _tables(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(root / TOOL.relative_to(ROOT)), *words],
        cwd=root,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with the pages, the tool and the results."""
    for name in COPIED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / name), str(tmp_path / name)], check=True)
    return tmp_path


def test_the_figures_on_the_pages_are_those_of_the_runs() -> None:
    """No figure is written by hand, none is older than the run.

    `tables.py --write` puts them there.
    """
    checked = _tables(ROOT, "--check")

    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


def test_a_figure_that_was_changed_by_hand_is_found_and_replaced(copy: Path) -> None:
    """The tool brings back what was measured, and the page around it stays as it is."""
    readme = copy / "README.md"
    before = readme.read_text()
    measured = _MEASURED.search(before)
    assert measured
    readme.write_text(before.replace(measured[0], "| 99.99 |", 1))

    checked, written = _tables(copy, "--check"), _tables(copy, "--write")

    assert (checked.returncode, checked.stdout) == (1, "has other figures: README.md\n"), (
        checked.stderr
    )
    assert (written.returncode, written.stdout) == (0, "written: README.md\n"), written.stderr
    assert readme.read_text() == before


def test_a_page_without_marks_is_left_alone(copy: Path) -> None:
    """A page that has lost its marks is named, and not written over."""
    readme = copy / "README.md"
    readme.write_text("nothing to see\n")

    written = _tables(copy, "--write")

    assert written.returncode != 0
    assert "README.md has no lines" in written.stderr
    assert readme.read_text() == "nothing to see\n"


def test_the_evidence_counts_what_there_is() -> None:
    """A rule, a broken participant or a mutant more, and the page says so."""
    model = runpy.run_path(str(ROOT / "test" / "model" / "configurations.py"))
    counts = (
        f"{len(model['MUTANTS'])} mutants, each short of one rule",
        f"{len(model['HOLD'])} configurations hold",
        f"{len(MUTANTS)} of {len(MUTANTS)} found",
        f"against {len(RULES)} rules",
        f"{len(BROKEN)} broken ones are each named",
    )
    page = (ROOT / "docs" / "evidence.md").read_text()

    assert [count for count in counts if count not in page] == []
