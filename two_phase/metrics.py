"""What the protocol counts, for Prometheus. No label ever carries an id.

Their number must not grow with the transactions.
"""

from collections.abc import Callable, Iterable

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from two_phase.errors import Unavailable

ROUNDS = Counter("two_phase_rounds", "Rounds sent to a participant", ["participant"])
ROUNDS_FAILED = Counter(
    "two_phase_rounds_failed", "Rounds without a well-formed answer", ["participant"]
)
UNACKNOWLEDGED = Gauge(
    "two_phase_unacknowledged",
    "Decisions that a participant has not acknowledged yet",
    ["participant"],
)
BATCH = Histogram(
    "two_phase_batch_transactions",
    "Transactions of one batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
DECISIONS = Counter(
    "two_phase_decisions", "Decisions written to the log, or found there", ["decision"]
)
QUEUE = Gauge("two_phase_queue", "Transactions that wait for a batch, when the next one is taken")
UNSURE = Gauge("two_phase_unsure", "Decisions sent to the log whose fate is not known yet")
VOTES = Counter("two_phase_votes", "Votes given", ["vote"])
VIOLATIONS = Counter(
    "two_phase_violations", "Protocol violations: each is a bug, and calls a human"
)
LOCKED = Counter("two_phase_locked", "Rounds that met a row which another session had locked")
COLLISIONS = Counter(
    "two_phase_collisions", "Local transactions that were repeated after a deadlock or a lost race"
)
RESTORED = Gauge(
    "two_phase_restored",
    "1 while a database that was restored from an older backup waits for its reconciliation",
    ["database"],
)
RECOVERED = Counter("two_phase_recovered", "Branches resolved by asking the coordinator")


class _InDoubt(Collector):
    """Asks the database when Prometheus asks us.

    Without a database the two figures are left out.
    """

    def __init__(self, summary: Callable[[], tuple[int, float]]) -> None:
        self._summary = summary

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        try:
            count, oldest_seconds = self._summary()
        except Unavailable:
            return
        yield GaugeMetricFamily(
            "two_phase_in_doubt", "Branches prepared and not decided, as far as is known", count
        )
        yield GaugeMetricFamily(
            "two_phase_in_doubt_oldest_seconds", "The age of the oldest of them", oldest_seconds
        )


def watch_in_doubt(summary: Callable[[], tuple[int, float]]) -> None:
    """Show how many branches are in doubt and the age of the oldest in seconds.

    ``summary`` may raise Unavailable.
    """
    REGISTRY.register(_InDoubt(summary))
