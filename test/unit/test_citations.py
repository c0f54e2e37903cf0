"""What code, tests and pages cite exists.

Rules (R7), laws (L3), duties (P12), faults (F21), ADR 8.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "two_phase" / "README.md"
FAULTS = ROOT / "test" / "faults" / "README.md"
ADRS = ROOT / "docs" / "adr"
READ = (".py", ".md", ".pml", ".js", ".sql", ".tpl", ".yaml")
#: How many there are at least: a page in another format must not pass for one without rules.
COUNTS = {"R": 13, "L": 7, "P": 25, "F": 24}

_CITED = re.compile(r"(?<![\w#.-])([RLPF])([1-9]\d?)(?![\w.%-]|\.\d)")
_RANGE = re.compile(r"\b([RLPF])(\d+) to \1(\d+)\b")
_ADR = re.compile(r"\bADRs? (\d+)\b")
#: How they were cited before: by words that no search finds all of.
_BY_WORD = re.compile(r"\b(?:rules?|laws?|faults?,? rows?) \d", re.IGNORECASE)
_DEFINED = re.compile(r"^- \*\*([RLP]\d+)\.", re.MULTILINE)
_FAULT = re.compile(r"^\| (F\d+) \|(.*)\|$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _files() -> list[Path]:
    named = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [ROOT / name for name in named if name.endswith(READ) and (ROOT / name).exists()]


def _cited(text: str) -> set[str]:
    ranged = {
        f"{letter}{number}"
        for letter, first, last in _RANGE.findall(text)
        for number in range(int(first), int(last) + 1)
    }
    return ranged | {letter + number for letter, number in _CITED.findall(text)}


def _defined() -> set[str]:
    return {
        *_DEFINED.findall(PROTOCOL.read_text()),
        *(name for name, _ in _FAULT.findall(FAULTS.read_text())),
    }


def _tried() -> Iterator[tuple[str, list[Path]]]:
    """Return each fault with the tests that its row names."""
    for name, row in _FAULT.findall(FAULTS.read_text()):
        yield (
            name,
            [
                (FAULTS.parent / link).resolve()
                for link in _LINK.findall(row)
                if Path(link).name.startswith("test_")
            ],
        )


def test_rules_laws_duties_and_faults_are_numbered_without_a_gap() -> None:
    """A number that is missing, or stands twice, would leave a citation without its meaning."""
    names = [
        *_DEFINED.findall(PROTOCOL.read_text()),
        *(name for name, _ in _FAULT.findall(FAULTS.read_text())),
    ]

    for letter, least in COUNTS.items():
        numbers = [int(name[1:]) for name in names if name[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1)), letter
        assert len(numbers) >= least, letter


def test_everything_that_is_cited_exists() -> None:
    """A reader who follows "R7" or "F21" finds it."""
    defined = _defined()
    decisions = {str(int(path.name[:4])) for path in ADRS.glob("[0-9]*.md")}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files()
        for name in (
            *(_cited(path.read_text()) - defined),
            *(
                f"ADR {number}"
                for number in _ADR.findall(path.read_text())
                if number not in decisions
            ),
        )
    }

    assert missing == set()


def test_nothing_is_cited_by_word() -> None:
    """One search for "R7" finds every place that rests on it."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _files()
        if path != Path(__file__)
        for match in _BY_WORD.finditer(path.read_text())
    ]

    assert found == []


@pytest.mark.parametrize("letter", ["R", "L"])
def test_every_rule_and_every_law_is_cited_by_a_test(letter: str) -> None:
    """A rule that no test names may be one that no test holds."""
    cited = {
        name
        for path in _files()
        if path.name.startswith("test_")
        for name in _cited(path.read_text())
    }

    assert {name for name in _defined() if name[0] == letter} - cited == set()


def test_every_fault_is_cited_by_the_tests_that_its_row_names() -> None:
    """The table does not promise a test that is about something else."""
    tried = dict(_tried())
    silent = [
        f"{name}: {path.name}"
        for name, paths in tried.items()
        for path in paths
        if not path.exists() or name not in _cited(path.read_text())
    ]

    assert silent == []
    assert sum(bool(paths) for paths in tried.values()) >= COUNTS["F"]


def test_every_test_of_faults_is_on_the_page() -> None:
    """The folder holds nothing that its page does not name."""
    page = FAULTS.read_text()

    assert [
        path.name for path in FAULTS.parent.glob("test_*.py") if f"({path.name})" not in page
    ] == []
