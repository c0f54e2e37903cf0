"""What goes wrong, and where: one question at every place where something can.

A place has a kind, and a kind has its faults. ``RandomFate`` throws dice, so that a seed is a
story; ``ChosenFate`` counts the places and strikes at those it was given, so that all single faults
and all pairs of them can be enumerated.
"""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Protocol

#: Every fault that can strike at a place of this kind.
FAULTS: dict[str, tuple[str, ...]] = {
    # A message on its way to a process, and the answer on its way back. A proxy that sends it again
    # brings one answer back: to the first copy (repeated) or to the second one (retried).
    "request": ("lost", "repeated", "retried", "late", "very_late"),
    "answer": ("lost", "late", "very_late"),
    # A named crash point that a process reaches.
    "point": ("crash", "pause", "long_pause"),
    # A statement that writes to the log: not executed; executed, and the reply lost or never sent;
    # long in flight, and then there or not; visible before it is flushed; told to repeat it; and
    # the death of the database before and after it.
    "write": (
        "refused",
        "reply_lost",
        "silent",
        "hangs",
        "fails_late",
        "unflushed",
        "deadlock",
        "database_dies_before",
        "database_dies_after",
    ),
    # A statement that only reads the log.
    "read": ("refused", "silent", "database_dies_before"),
    # The local transaction of a participant that applies a round.
    "commit": (
        "collision",
        "locked",
        "poison",
        "refused",
        "reply_lost",
        "unflushed",
        "database_dies_before",
        "database_dies_after",
    ),
}


class Fate(Protocol):
    """Decides what goes wrong, and how long things take."""

    #: Nothing goes wrong any more.
    over: bool
    #: How often each fault has struck.
    struck: Counter[str]

    def at(self, kind: str, what: str) -> str:
        """Return the fault that strikes here, or the empty string."""
        ...

    def seconds(self, what: str) -> float:
        """Return how long something takes: a key of ``DURATIONS``."""
        ...

    def survivors(self, unflushed: int) -> int:
        """Return how many of so many unflushed transactions a dying database keeps all the same."""
        ...


#: The shortest and the longest time that a thing takes, in seconds.
DURATIONS: dict[str, tuple[float, float]] = {
    "message": (0.0005, 0.02),
    "statement": (0.0002, 0.01),
    "retry": (0.02, 0.5),
    "late": (0.5, 6.0),
    "very_late": (5.0, 40.0),
    "pause": (0.1, 8.0),
    "long_pause": (5.0, 60.0),
    "hangs": (0.2, 8.0),
    "down": (0.05, 6.0),
    "partition": (0.2, 10.0),
    # A clock jumps by so much, far back or far ahead.
    "clock": (-1000.0, 1000.0),
}

_CHOSEN_SECONDS = {
    "message": 0.001,
    "statement": 0.001,
    "retry": 0.05,
    "late": 3.0,
    "very_late": 20.0,
    "pause": 3.0,
    "long_pause": 20.0,
    "hangs": 2.5,
    "down": 0.5,
}


class RandomFate:
    """Dice with a probability per kind of place."""

    def __init__(
        self,
        dice: Random,
        rates: Mapping[str, float],
        faults: Mapping[str, tuple[str, ...]] = FAULTS,
    ) -> None:
        self.over = False
        self.struck = Counter()
        self._dice = dice
        self._rates = rates
        self._faults = faults

    def at(self, kind: str, what: str) -> str:  # noqa: ARG002 - the dice do not look
        """Throw the dice."""
        if self.over or self._dice.random() >= self._rates.get(kind, 0.0):
            return ""
        fault = self._dice.choice(self._faults[kind])
        self.struck[f"{kind}: {fault}"] += 1
        return fault

    def seconds(self, what: str) -> float:
        """Return a duration, the short ones more often."""
        shortest, longest = DURATIONS[what]
        return shortest + (longest - shortest) * self._dice.random() ** 2

    def survivors(self, unflushed: int) -> int:
        """Return any number."""
        return self._dice.randint(0, unflushed)


#: What replicas do every second, with an order or without.
_LOOK = ("read", "standing")


class ChosenFate:
    """Strikes at given places, by their number, and remembers all that it came through.

    Looks at the log between which nothing happens are one place: to fail at the second of them is
    to fail at the first.
    """

    def __init__(self, chosen: Mapping[int, str]) -> None:
        self.over = False
        self.struck = Counter()
        self.places: list[tuple[str, str]] = []
        self._chosen = chosen

    def at(self, kind: str, what: str) -> str:
        """Return the fault that was chosen for this place."""
        if self.over or (self.places and self.places[-1] == _LOOK == (kind, what)):
            return ""
        number = len(self.places)
        self.places.append((kind, what))
        fault = self._chosen.get(number, "")
        if fault:
            self.struck[f"{kind}: {fault}"] += 1
        return fault

    def seconds(self, what: str) -> float:
        """Return always the same duration."""
        return _CHOSEN_SECONDS[what]

    def survivors(self, unflushed: int) -> int:  # noqa: ARG002 - the worst case
        """Return none."""
        return 0
