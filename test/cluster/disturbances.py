"""What is done to the running shop while customers order.

The restarts, kills, upgrades and scalings of an ordinary bad week.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from cluster.cluster import DEPLOYMENTS, Release, kubectl, pods, wait_until_ready


@dataclass(frozen=True)
class Disturbance:
    """Something that happens to the shop; only where pods are killed may an answer break."""

    name: str
    happen: Callable[[], None]
    may_break: bool = False


def disturbances(release: Release, *, kill_seconds: float) -> list[Disturbance]:
    """Return all of them, in the order of the programme."""
    return [
        Disturbance("nothing happens", lambda: time.sleep(10)),
        Disturbance("rolling restart of every Deployment", _restart_all),
        Disturbance("order_service scaled 1, 3, 1, 2", _scale),
        Disturbance(
            "helm upgrade to a changed setting", lambda: release.upgrade("config.LOG_LEVEL=WARNING")
        ),
        Disturbance("helm rollback", release.rollback),
        Disturbance("database pod restarted", _restart_database),
        Disturbance(
            f"a random pod killed every 3 s, {kill_seconds:.0f} s",
            lambda: _kill_pods(kill_seconds),
            may_break=True,
        ),
    ]


def _restart_all() -> None:
    for name in DEPLOYMENTS:
        kubectl("rollout", "restart", f"deployment/{name}")
    wait_until_ready()


def _scale() -> None:
    for replicas in (1, 3, 1, 2):
        kubectl("scale", "deployment/order-service", f"--replicas={replicas}")
        wait_until_ready()
        time.sleep(3)


def _restart_database() -> None:
    kubectl("delete", "pod", "service-postgresql-0")
    wait_until_ready()
    time.sleep(3)


def _kill_pods(seconds: float) -> None:
    chance = random.Random(0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        victim = chance.choice(pods())["metadata"]["name"]
        kubectl(
            "delete",
            "pod",
            victim,
            "--force",
            "--grace-period=0",
            "--wait=false",
            "--ignore-not-found",
        )
        time.sleep(3)
    wait_until_ready()
