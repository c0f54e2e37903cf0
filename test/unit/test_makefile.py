"""The Makefile's own words: its help fits a screen, and what is written wrongly is told before anything is begun."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )


def test_help_fits_a_screen() -> None:
    """At most 40 lines of at most 100 columns, and no promise of how long something takes on a machine that is not known."""
    lines = _make("help").stdout.splitlines()

    assert 10 < len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if "minutes" in line.replace("SOAK=minutes", "")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("PORT=8081", "PORT is not a variable of this Makefile"),
        ("SEED=7", "SEED is not a variable of this Makefile"),
        ("SEEDS=x", "SEEDS must be a whole number"),
        ("FROM=-1", "FROM must be a whole number"),
        ("SOAK=1.5", "SOAK must be a whole number"),
        ("BASE_URL=http://shop.example", "BASE_URL must be host:port"),
    ],
)
def test_variable_that_is_wrong_is_told(given: str, told: str) -> None:
    """A typing error is not ignored, and a wrong number is not found out by a traceback."""
    done = _make("newman", "-o", "test/node_modules/installed", given)

    assert done.returncode != 0
    assert told in done.stderr


@pytest.mark.parametrize(
    "given", ["SEEDS=20", "FROM=0", "SHOP_PORT=1", "SHOP_DATA=x", "DATABASE_URL=", "PYTHON=python3"]
)
def test_variable_that_is_right_is_taken(given: str) -> None:
    """Settings of the shop may be written behind the target as well."""
    assert _make("help", given).returncode == 0


def test_every_folder_of_tests_is_run_by_one_half_or_by_check() -> None:
    """A new folder that nothing runs would hold nothing."""
    told = _make("-n", "test-faults", "test-services").stdout.split()
    folders = {f"test/{path.parent.name}" for path in (ROOT / "test").glob("*/test_*.py")}

    assert sorted(word for word in told if word.startswith("test/")) == sorted(
        folders - {"test/unit"}
    )
