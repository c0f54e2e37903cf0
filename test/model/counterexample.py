"""Tells a run that Spin replays in the model's own words.

Who moved, by which line, and what changed.

Spin prints every assignment, and after each the arrays that changed; a step of the model is all
that one process does between two choices, so the printed lines are gathered into steps and only the
difference is shown.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

WORDS = {
    "pc": [
        *("idle", "voting", "unsure", "knows confirmed", "knows cancelled", "knows refused"),
        *("again", "unsure (refused)", "gone"),
    ],
    "row": ["none", "confirmed", "cancelled", "refused"],
    "branch": ["none", "prepared", "committed", "aborted"],
    "flight": ["landed", "on the wire", "open", "abandoned"],
}
WORDS |= {"row_disk": WORDS["row"], "cargo": WORDS["row"], "branch_disk": WORDS["branch"]}
#: Sets of participants, or of transactions.
SETS = {"prepare", "yes", "no", "commit", "abort", "acknowledged", "instead", "attempts", "heard"}

_MOVE = re.compile(r"\s*\d+:\s+proc\s+(\d+) \((\w+):\d+\) \S+:(\d+) \(state \d+\)\s+\[(.*)\]")
_START = re.compile(r"\s*Starting (\w+) with pid (\d+)")
_VALUE = re.compile(r"\s+(\w+)(?:\[(\d+)\])? = (\d+)\s*$")

Variable = tuple[str, int]


@dataclass
class _Step:
    who: str
    line: int
    changed: dict[Variable, int] = field(default_factory=dict)


def told(
    replay: str, model: str, participants: int, transactions: int, units: int
) -> Iterator[str]:
    """Yield one line per step of a ``replay`` (by ``spin -t -p -g``) of the ``model``."""
    values: dict[Variable, int] = {
        (name, each): units for name in ("free", "free_disk") for each in range(participants)
    }
    laws = set(re.findall(r"LAW\((\w+),", model))
    for step in _steps(replay.splitlines(), model.splitlines(), participants):
        changes = [
            _change(variable, value, transactions)
            for variable, value in step.changed.items()
            if variable[0] not in laws and values.get(variable, 0) != value
        ]
        values |= step.changed
        if changes:
            yield f"{step.who:<30} line {step.line:<4} {', '.join(changes)}"


def _steps(replay: Iterable[str], model: Sequence[str], participants: int) -> Iterator[_Step]:
    names: dict[int, str] = {}
    seen: dict[str, int] = {}
    step = _Step("at the beginning", 0)
    pid = ""
    claims = 0
    for text in replay:
        if start := _START.match(text):
            # The first process is number 1; a liveness property counts as one more while others
            # start, but not when they move.
            claims = int(start[2]) - 1 if not seen else claims
            number = seen[start[1]] = seen.get(start[1], -1) + 1
            names[int(start[2]) - claims] = _name(start[1], number, participants)
        elif move := _MOVE.match(text):
            line = int(move[3])
            if move[1] != pid or (":: atomic" in model[line - 1] and line != step.line):
                yield step
                step = _Step(names.get(int(move[1]), move[2]), line)
            pid = move[1]
        elif value := _VALUE.match(text):
            step.changed[value[1], int(value[2] or 0)] = int(value[3])
    yield step


def _name(process: str, number: int, participants: int) -> str:
    if process == "Branch":
        return f"participant {number % participants}, transaction {number // participants}"
    if process in {"Coordinator", "Row"}:
        return f"{process.lower()} of transaction {number}"
    return f"database of participant {number}" if process == "Database" else process.lower()


def _change(variable: Variable, value: int, transactions: int) -> str:
    name, index = variable
    if name in {"branch", "branch_disk"}:
        where = f"[p{index // transactions},t{index % transactions}]"
    elif name in {"claim", "attempts", "faults", "generation", "told_409"}:
        where = ""
    else:
        where = f"[{index}]"
    if name in SETS:
        return f"{name}{where} = {{{','.join(str(bit) for bit in range(8) if value >> bit & 1)}}}"
    words = WORDS.get(name, [])
    return f"{name}{where} = {words[value] if value < len(words) else value}"
