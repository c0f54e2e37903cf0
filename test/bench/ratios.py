"""The ratios by which the shop is judged.

Measured in the same round, so that a slow minute of the machine hits both sides.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from measure import Point, Sample


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))


def _orders(sample: Sample) -> float:
    return sample.counted.per_second


def _p50(sample: Sample) -> float:
    return sample.counted.p50_ms


def _p99(sample: Sample) -> float:
    return sample.counted.p99_ms


@dataclass(frozen=True)
class Ratio:
    """One line of the table of goals; the goal is a bound from above or from below."""

    label: str
    of: Point
    by: Point
    value: Callable[[Sample], float]
    goal: float
    stretch: float
    at_most: bool = False

    def reached(self, value: float) -> str:
        """Return how far ``value`` got."""
        for name, bound in (("stretch", self.stretch), ("goal", self.goal)):
            if (value <= bound) if self.at_most else (value >= bound):
                return name
        return "missed"


def _shop(clients: int, variant: str = "spread") -> Point:
    return Point("shop", variant, clients)


def _other(system: str, clients: int) -> Point:
    return Point(system, "spread", clients)


RATIOS = (
    Ratio("orders/s / bare core, c=64", _shop(64), _other("bare core", 64), _orders, 2.0, 3.0),
    Ratio("orders/s / bare core, c=256", _shop(256), _other("bare core", 256), _orders, 3.5, 5.0),
    Ratio(
        "orders/s / bare FastAPI, c=256", _shop(256), _other("bare FastAPI", 256), _orders, 0.6, 0.9
    ),
    Ratio("orders/s / naive 2PC, c=64", _shop(64), _other("naive 2PC", 64), _orders, 20, 35),
    Ratio("orders/s / DTM, c=16", _shop(16), _other("DTM", 16), _orders, 1.0, 10),
    Ratio("orders/s / DTM, c=64", _shop(64), _other("DTM", 64), _orders, 1.0, 10),
    Ratio(
        "p50 / bare core p50, c=64",
        _shop(64),
        _other("bare core", 64),
        _p50,
        0.6,
        0.4,
        at_most=True,
    ),
    Ratio(
        "p99 / bare core p99, c=64",
        _shop(64),
        _other("bare core", 64),
        _p99,
        0.7,
        0.4,
        at_most=True,
    ),
    Ratio(
        "p50 / bare core p50, c=1", _shop(1), _other("bare core", 1), _p50, 3.5, 2.0, at_most=True
    ),
    Ratio(
        "orders/s, one product / spread, c=64",
        _shop(64, "one product"),
        _shop(64),
        _orders,
        0.8,
        0.95,
    ),
    Ratio(
        "orders/s, one account / spread, c=64",
        _shop(64, "one account"),
        _shop(64),
        _orders,
        0.8,
        0.95,
    ),
)


def by_round(ratio: Ratio, samples: Sequence[Sample]) -> list[float]:
    """Return the ratio in each round in which both of its points were measured."""
    of = {each.round: ratio.value(each) for each in samples if each.point == ratio.of}
    by = {each.round: ratio.value(each) for each in samples if each.point == ratio.by}
    return [of[number] / by[number] for number in sorted(of.keys() & by.keys())]
