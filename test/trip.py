"""Runs examples/trip: its four processes on a PostgreSQL of ours, each started again when it dies.

``make example`` books trips with it, and kills the coordinator in between.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import Engine, create_engine, text

from running_shop import ROOT
from shop.local import postgres_binaries
from shop.local.ports import Ports
from shop.local.postgres import Postgres, account_for

PARTICIPANTS = ("flight", "hotel", "car")
PROCESSES = (*PARTICIPANTS, "coordinator")
PATIENCE_SECONDS = 40
_OWNED = """
    INSERT INTO flight.planes VALUES ('KL1', 2), ('KL2', 100);
    INSERT INTO hotel.nights VALUES ('friday', 100);
    INSERT INTO car.vehicles SELECT 'car-' || n FROM generate_series(10, 60) AS n;
"""
_LEFT = """
    SELECT (SELECT seats FROM flight.planes WHERE number = 'KL2'), (SELECT beds FROM hotel.nights),
           (SELECT count(*) FROM car.vehicles WHERE taken_by IS NULL)
"""
_OPEN = " UNION ALL ".join(
    f"SELECT 1 FROM {name}.branches WHERE state = 'prepared'" for name in PARTICIPANTS
)


class Trips:
    """A running trip."""

    def __init__(self, engine: Engine, ports: Ports, points: Path | None = None) -> None:
        self.engine = engine
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": engine.url.render_as_string(hide_password=False),
            "TRIP_KEY": "a key that all processes of this run share",
        }
        if points:
            self._environment["CRASH_POINTS_DIR"] = str(points)
        for name in PROCESSES:
            self._environment[f"{name.upper()}_PORT"] = str(ports.reserve())
        for name in PROCESSES:
            self._run("create", name).wait(PATIENCE_SECONDS)
        with engine.begin() as connection:
            connection.execute(text(_OWNED))
        self._running = {name: self._run(name) for name in PROCESSES}

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "examples.trip", *words]
        return subprocess.Popen(command, cwd=ROOT, env=self._environment)

    def pid(self, name: str) -> int:
        """Return the pid of a process, which is started again if it has died."""
        self.start_again()
        return self._running[name].pid

    def start_again(self) -> list[str]:
        """Start what has died, and return its names."""
        dead = [name for name, process in self._running.items() if process.poll() is not None]
        for name in dead:
            self._running[name] = self._run(name)
        return dead

    def kill(self, name: str) -> None:
        """End a process by SIGKILL."""
        self._running[name].kill()
        self._running[name].wait()

    def book(self, key: str, seats: int = 1, number: str = "KL2") -> httpx.Response:
        """Book a trip until it is decided, whatever dies meanwhile."""
        wishes: dict[str, Any] = {
            "traveller": "Olga",
            "flight": {"number": number, "seats": seats},
            "hotel": {"day": "friday", "beds": seats},
        }
        url = f"http://127.0.0.1:{self._environment['COORDINATOR_PORT']}/trips"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.post(url, json=wishes, headers={"Idempotency-Key": key}, timeout=10)
                if answer.status_code in (201, 409):
                    return answer
                assert answer.status_code in (202, 503), answer.text
            assert time.monotonic() < deadline, "the trip got no final answer"
            self.start_again()
            time.sleep(0.1)

    def cancelled(self, path: str, transaction_id: str) -> bool:
        """Ask about a transaction, and return whether the answer came and was: cancelled."""
        question = {"transactions": [{"transaction_id": transaction_id, "generation": 1}]}
        headers = {"Authorization": f"Bearer {self._environment['TRIP_KEY']}"}
        url = f"http://127.0.0.1:{self._environment['COORDINATOR_PORT']}{path}"
        try:
            answer = httpx.post(url, json=question, headers=headers).json()
        except httpx.TransportError:
            return False
        return bool(answer.get("cancelled") == [transaction_id])

    def left(self) -> tuple[int, int, int]:
        """Return seats, beds and cars that are left, once nothing is in doubt any more."""
        self.until(lambda: not self._read(_OPEN), "a branch stays in doubt")
        return tuple(self._read(_LEFT)[0])

    def _read(self, statement: str) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text(statement)).all()

    def until(self, holds: Callable[[], bool], complaint: str) -> None:
        """Wait until something holds, and start again what dies meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, complaint
            self.start_again()
            time.sleep(0.1)

    def stop(self) -> None:
        """End all processes."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def running(postgres: Postgres, ports: Ports, points: Path | None = None) -> Iterator[Trips]:
    """Run a trip in a database of its own."""
    admin = create_engine(postgres.url(), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE trip"))
    engine = create_engine(postgres.url("trip"))
    trips = Trips(engine, ports, points)
    try:
        yield trips
    finally:
        trips.stop()
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text("DROP DATABASE trip WITH (FORCE)"))
        admin.dispose()


def main() -> None:
    """Book trips, and kill the coordinator between them."""
    with tempfile.TemporaryDirectory() as folder, Ports() as ports:
        data = Path(folder) / "data"
        postgres = Postgres(
            postgres_binaries.find(account_for(data)), data, ports.reserve(), "of-this-run"
        )
        postgres.create()
        postgres.start()
        try:
            with running(postgres, ports) as trips:
                key = str(uuid4())
                print("booked:  ", trips.book(key).json())
                trips.kill("coordinator")
                print("repeated, after kill -9 of the coordinator:", trips.book(key).json())
                print("refused: ", trips.book(str(uuid4()), seats=3, number="KL1").json())
                print("left: {} seats, {} beds, {} cars".format(*trips.left()))
        finally:
            postgres.stop("fast")


if __name__ == "__main__":
    main()
