"""What is measured: the shop, and the comparisons beside it, each as processes that can be started and counted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx
from load import Orders
from usage import Server

from shop import topology
from shop.local.ports import LOOPBACK, Ports

HERE = Path(__file__).parent
START_SECONDS = 60
PARTICIPANTS = tuple(participant.name for participant in topology.PARTICIPANTS)


class System(Protocol):
    """Something that takes orders."""

    name: str
    url: str
    #: Which orders can be sent to it, by the name of the variant.
    variants: Mapping[str, Callable[[], Orders]]
    clients: tuple[int, ...]
    #: host:port of each process that takes orders, where there are several.
    replicas: Sequence[str]

    def running(self) -> AbstractContextManager[None]:
        """Start it, and stop it at the end of the block."""
        ...

    def pids(self) -> Mapping[str, int]:
        """Return its processes by name, the database's apart."""
        ...

    def internal_requests(self) -> int:
        """Return how many HTTP requests its services have sent each other so far."""
        ...

    def confirmed(self) -> int | None:
        """Return how many orders stand in its table, if it has one."""
        ...


@dataclass
class Program:
    """One process of a comparison: the module, and what its environment says."""

    name: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    #: What answers 200 once the process is up.
    path: str = "/openapi.json"

    def command(self) -> list[str]:
        """Return how it is started."""
        return [sys.executable, "-m", "comparisons.serve", self.module, str(self.port)]

    def settings(self) -> Mapping[str, str]:
        """Return what is set for it in the environment."""
        return self.environment

    def requests(self, file: Path) -> int:
        """Return how many requests it has answered.

        It writes the number to ``file`` when it is asked to.
        """
        assert self.process
        file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(file.exists, f"{self.name} does not count")
        return int(file.read_text())


def _any_orders() -> Orders:
    return Orders("1-1000", "1-1000", "1-1000")


class Comparison:
    """A system of test/bench/comparisons; the first of its programs takes the orders."""

    def __init__(
        self,
        name: str,
        programs: list[Program],
        database_url: str,
        table: str | None,
        *,
        clients: tuple[int, ...],
        folder: Path,
    ) -> None:
        self.name = name
        self.clients = clients
        self.replicas: Sequence[str] = ()
        self.variants: Mapping[str, Callable[[], Orders]] = {"spread": _any_orders}
        self._programs = programs
        self._database_url = database_url
        self._table = table
        self._folder = folder
        self._server: Server | None = None
        self.url = ""

    def counting_on(self, server: Server) -> "Comparison":
        """Let it count its orders in the table by ``server``."""
        self._server = server
        return self

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start all its programs, on ports of their own, and stop them at the end of the block."""
        with Ports() as ports:
            for program in self._programs:
                program.port = ports.reserve()
            self.url = f"http://{LOOPBACK}:{self._programs[0].port}"
            try:
                for program in self._programs:
                    program.process = self._started(program)
                for program in self._programs:
                    _wait_until_answering(program)
                yield
            finally:
                _stop(self._programs)

    def _started(self, program: Program) -> subprocess.Popen[bytes]:
        peers = ",".join(
            f"{each.name}=http://{LOOPBACK}:{each.port}" for each in self._programs[1:]
        )
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DATABASE_URL": self._database_url,
            "PARTICIPANTS": peers,
            "REQUESTS_FILE": str(self._requests_file(program)),
            **program.settings(),
        }
        with (self._folder / f"{self.name}-{program.name}.log").open("ab") as log:
            return subprocess.Popen(
                program.command(), cwd=HERE, env=environment, stdout=log, stderr=log
            )

    def _requests_file(self, program: Program) -> Path:
        return self._folder / f"{self.name}-{program.name}.requests"

    def pids(self) -> Mapping[str, int]:
        """Return its processes by name."""
        return {each.name: each.process.pid for each in self._programs if each.process}

    def internal_requests(self) -> int:
        """Ask every process behind the first how many requests it has answered, and return the sum."""
        return sum(program.requests(self._requests_file(program)) for program in self._programs[1:])

    def confirmed(self) -> int | None:
        """Return how many orders stand in its table."""
        if self._table is None or self._server is None:
            return None
        return int(self._server.value(f"SELECT count(*) FROM {self._table}"))


def comparisons(database_url: str, server: Server, folder: Path) -> list[Comparison]:
    """Return all comparisons, as their users would run them."""

    def one(name: str, module: str, table: str | None, clients: tuple[int, ...]) -> Comparison:
        return Comparison(
            name, [Program("app", module)], database_url, table, clients=clients, folder=folder
        ).counting_on(server)

    def two_phase(name: str, module: str, schema: str) -> Comparison:
        programs = [
            Program("coordinator", "comparisons.naive_coordinator", {"SCHEMA": schema}),
            *(
                Program(each, module, {"SCHEMA": schema, "PARTICIPANT": each})
                for each in PARTICIPANTS
            ),
        ]
        table = f"{schema}.orders WHERE status = 'confirmed'"
        return Comparison(
            name, programs, database_url, table, clients=(1, 64), folder=folder
        ).counting_on(server)

    return [
        one("bare FastAPI", "comparisons.bare_fastapi", None, (1, 64, 256)),
        one("bare core", "comparisons.bare_core", "bare.orders", (1, 64, 256)),
        one("bare asyncpg", "comparisons.bare_asyncpg", "bare.orders", (1, 64)),
        two_phase("naive 2PC", "comparisons.naive_participant", "naive"),
        two_phase("PREPARE TRANSACTION", "comparisons.prepared_participant", "prepared"),
    ]


def _wait_until_answering(program: Program) -> None:
    def answers() -> bool:
        if program.process and program.process.poll() is not None:
            raise RuntimeError(f"{program.name} has ended")
        try:
            return httpx.get(f"http://{LOOPBACK}:{program.port}{program.path}").is_success
        except httpx.TransportError:
            return False

    wait_until(answers, f"{program.name} does not answer")


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    """Return as soon as ``is_so``.

    Raises RuntimeError with ``otherwise`` when that takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.02)


def _stop(programs: list[Program]) -> None:
    for program in programs:
        if program.process:
            program.process.terminate()
    for program in programs:
        if program.process:
            try:
                program.process.wait(5)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
            program.process = None
