"""A shop whose processes are killed and held up on purpose, and what tests ask of it."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import URL, Engine, create_engine

from given import Given
from laws import broken_laws
from running_shop import Shop

PREFIXES = {"order": "", "payment": "/payment", "stock": "/stock", "delivery": "/delivery"}


@dataclass(frozen=True)
class Crashing:
    """A shop whose processes can be told to die."""

    shop: Shop
    points: Path
    client: httpx.Client
    given: Given
    admin: Engine

    def arm(self, process: str, point: str) -> Callable[[], None]:
        """Arm a point of a process; call the result to wait until it was reached and the process runs again."""
        pid = self.shop.pid(process)
        armed = self.points / f"{point}.{pid}"
        armed.touch()

        def wait() -> None:
            until(lambda: not armed.exists(), f"{process} never reached {point}")
            until(
                lambda: pid_of(self.shop, process) not in (None, pid),
                f"{process} was not started again",
            )

        return wait

    def rest(self) -> None:
        """Return when every process, each replica for itself, runs and says that it is ready."""
        for process in self.shop.services():
            prefix = PREFIXES[process.removesuffix("-2")]
            until(
                lambda process=process: pid_of(self.shop, process) is not None,
                f"{process} does not run",
            )
            address = f"{self.shop.listener(process)}{prefix}/health/ready"
            until(lambda address=address: _is_ready(address), f"{process} is not ready", 40)

    def final_answer(self, body: dict[str, Any], key: str) -> httpx.Response:
        """Repeat the order until it is answered for good.

        Only clean answers may come before that.
        """
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = self.client.post("/orders", json=body, headers={"Idempotency-Key": key})
                assert answer.status_code in (201, 409, 202, 503), answer.text
                if answer.status_code in (201, 409):
                    return answer
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the order got no final answer"
            time.sleep(0.2)


@contextlib.contextmanager
def crashing_shop(
    shop: Shop, points: Path | None = None, admin: Engine | None = None
) -> Iterator[Crashing]:
    """Make a running shop one that tests can break.

    ``points`` is its CRASH_POINTS_DIR, if it has one, and ``admin`` the superuser's connections, if
    its server is not its own.
    """
    admin = admin or admin_of(shop)
    with httpx.Client(base_url=f"http://{shop.address}", timeout=20) as client:
        yield Crashing(shop, points or shop.data, client, Given(client), admin)
    admin.dispose()


def admin_of(shop: Shop) -> Engine:
    """Return the superuser's connections to the shop's database."""
    server = json.loads((shop.data / "run" / "addresses.json").read_text())["postgres"]
    password = json.loads((shop.data / "secrets.json").read_text())["postgres"]
    return create_engine(
        URL.create(
            "postgresql+psycopg2", "postgres", password, server["host"], server["port"], "shop"
        ),
        pool_pre_ping=True,
    )


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def pid_of(shop: Shop, process: str) -> int | None:
    """Return the pid of a process that lives."""
    try:
        pid = shop.pid(process)
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


def until(condition: Callable[[], bool], complaint: str, seconds: float = 20) -> None:
    """Return when the condition holds.

    Fails the test with the complaint when it does not in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def until_at_rest(admin: Engine, seconds: float = 20) -> float:
    """Return when all laws hold and no branch is in doubt, and how many seconds it took."""
    began = time.monotonic()
    until(lambda: not broken_laws(admin, at_rest=True), "something is still in doubt", seconds)
    return time.monotonic() - began
