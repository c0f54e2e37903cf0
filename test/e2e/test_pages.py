"""The commands of README and tutorial are typed at a new shop, and get the answers that are shown.

What differs from run to run is left out of the comparison: ids of orders, times, sizes, ports and
versions. The README's commands are some of the tutorial's, so that one run tries both.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.needs import needed
from running_shop import ROOT, Shop

README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
#: The tables of commands are shown without a line break in a cell.
WIDTH = "200"
COMMAND_SECONDS = 60

_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TEXT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d| UTC)")
_SIZE = re.compile(r"\b\d+ kB")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_FOLDER = re.compile(r"(of|in) /\S+")


@dataclass(frozen=True)
class Exchange:
    """A command of a page, as it is to be typed, and the answer that the page shows."""

    command: str
    answer: str


def exchanges(page: Path) -> list[Exchange]:
    """Return the commands of a page with their answers, in their order."""
    found: list[Exchange] = []
    for block in _CONSOLE.findall(page.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            end = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            found.append(Exchange("\n".join(lines[: end + 1]), "\n".join(lines[end + 1 :])))
    return found


def normalised(text: str) -> str:
    """Return what must be equal of an answer.

    Ids of orders by their first place, times by being there.
    """
    known: dict[str, str] = {}
    text = _UUID.sub(
        lambda found: known.setdefault(found[0], f"order {len(known) + 1}"), text.strip()
    )
    text = _SIZE.sub(
        "some kB",
        _MOMENT.sub(lambda found: found[0] if found[0].startswith("2030") else "then", text),
    )
    # A problem may be written with spaces; every other answer is compared to the letter.
    is_problem = text.startswith('{"type":')
    return json.dumps(json.loads(text), separators=(",", ":")) if is_problem else text


@pytest.fixture(scope="module")
def run(
    start_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Return a function that types a command beside a new shop, and returns what is printed."""
    shop = start_shop()
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".data").symlink_to(shop.data)
    (folder / ".venv").symlink_to(sys.prefix)
    own = {
        "SHOP_DATA": str(shop.data),
        "SHOP_PORT": str(shop.port),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": WIDTH,
    }

    def typed(command: str) -> str:
        done = subprocess.run(
            [
                "bash",
                "-c",
                command.replace("127.0.0.1:8080", shop.address).replace("curl ", "curl -s "),
            ],
            cwd=folder,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    typed.output = shop.output.read_text()  # type: ignore[attr-defined]
    yield typed
    # A command that froze a process must not outlive a failure.
    typed("kill -CONT $(cat .data/run/*.pid)")


def test_every_command_of_the_tutorial_gets_the_answer_that_it_shows(
    run: Callable[[str], str],
) -> None:
    """A reader who types what stands there sees what stands there."""
    needed(["curl", "--version"], "the pages use curl")
    told: list[tuple[str, str]] = []
    shown: list[tuple[str, str]] = []
    for exchange in exchanges(TUTORIAL):
        shown.append((exchange.command, normalised(exchange.answer)))
        told.append((exchange.command, normalised(run(exchange.command))))

    assert told == shown


def test_the_same_request_with_the_same_key_is_shown_with_the_same_order() -> None:
    """Ids are compared within an answer only.

    What is promised across two answers is looked at here.
    """
    first, second = [each.answer for each in exchanges(TUTORIAL) if "lamp-for-anna" in each.command]

    assert first == second


def test_the_commands_of_the_readme_are_the_tutorials() -> None:
    """What the README shows is tried with the tutorial: the same commands, order and answers."""
    tutorial = iter(exchanges(TUTORIAL))
    readme = exchanges(README)

    assert readme
    assert [each for each in readme if each not in tutorial] == []


def test_the_start_is_shown_as_it_is(run: Callable[[str], str]) -> None:
    """Each line that the tutorial shows of `make up` is printed, in this order."""
    block = next(block for block in _TEXT.findall(TUTORIAL.read_text()) if "gateway " in block)
    printed = iter(_startup(run.output))  # type: ignore[attr-defined]

    assert [line for line in _startup(block) if line not in printed] == []


def _startup(text: str) -> list[str]:
    lines = [_NUMBER.sub("N", _FOLDER.sub(r"\1 FOLDER", line)) for line in text.splitlines()]
    return [line for line in lines if line != "..."]
