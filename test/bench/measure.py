"""One measurement: so many clients on one system for some seconds, with what it cost."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import usage
from load import Counted, send
from runs import Miscounted
from systems import System
from usage import Server

SETTLE_SECONDS = 15


@dataclass(frozen=True)
class Point:
    """What is measured: a system, under a variant of the load, with so many clients."""

    system: str
    variant: str
    clients: int


@dataclass(frozen=True)
class Sample:
    """One measurement of a point; everything that was used is per confirmed order."""

    point: Point
    round: int
    counted: Counted
    #: Microseconds of processor time, by process; `postgres` is the server with all its backends.
    cpu_us: Mapping[str, float]
    #: Megabytes of resident memory at the end, by process.
    rss_mb: Mapping[str, float]
    forced_writes: float
    http_requests: float

    def as_json(self) -> dict[str, Any]:
        """Return everything for the result file."""
        return {
            **asdict(self.point),
            "round": self.round,
            "orders_per_second": self.counted.per_second,
            **asdict(self.counted),
            "cpu_us_per_order": dict(self.cpu_us),
            "rss_mb": dict(self.rss_mb),
            "forced_writes_per_order": self.forced_writes,
            "http_requests_per_order": self.http_requests,
        }


def sample(
    system: System, server: Server, point: Point, number: int, *, warm_seconds: int, seconds: int
) -> Sample:
    """Measure a point once, after a warm-up; raises Miscounted."""
    orders = system.variants[point.variant]()
    send(system.url, orders, clients=point.clients, seconds=warm_seconds, replicas=system.replicas)
    confirmed = settled(system)
    orders = system.variants[point.variant]()
    cpu, forced, requests = _cpu(system, server), server.forced_writes(), system.internal_requests()
    counted = send(
        system.url, orders, clients=point.clients, seconds=seconds, replicas=system.replicas
    )
    used = {name: after - cpu[name] for name, after in _cpu(system, server).items()}
    forced, requests = server.forced_writes() - forced, system.internal_requests() - requests
    done = counted.requests - counted.refused
    if done <= 0:
        raise Miscounted(f"{point}: not one order was confirmed in {seconds} s")
    _check(point, settled(system), confirmed, done)
    return Sample(
        point,
        number,
        counted,
        cpu_us={name: seconds_used / done * 1e6 for name, seconds_used in used.items()},
        rss_mb={name: usage.rss_mb(pid) for name, pid in system.pids().items()},
        forced_writes=forced / done,
        http_requests=1 + requests / done,
    )


def settled(system: System) -> int | None:
    """Return how many orders are confirmed, once nothing is under way any more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    before = system.confirmed()
    while before is not None:
        time.sleep(0.3)
        now = system.confirmed()
        if now == before or time.monotonic() > deadline:
            return now
        before = now
    return None


def _check(point: Point, confirmed: int | None, before: int | None, done: int) -> None:
    """Compare what wrk has counted with the table, which may have more.

    The orders left under way by warm-up and measurement.
    """
    if confirmed is None or before is None:
        return
    unanswered = confirmed - before - done
    if not 0 <= unanswered <= 2 * point.clients:
        raise Miscounted(
            f"{point}: wrk has counted {done} confirmed orders, the table has {confirmed - before} more than before"
        )


def _cpu(system: System, server: Server) -> dict[str, float]:
    cpu = {name: usage.cpu_seconds(pid) for name, pid in system.pids().items()}
    return {**cpu, "postgres": usage.cpu_seconds_of_family(server.pid)}
