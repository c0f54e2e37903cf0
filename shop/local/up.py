"""`shop up`: the whole shop on this machine, until it is stopped.

PostgreSQL -> database, roles, schemas -> migrations -> participants -> order -> gateway -> ready
"""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from sqlalchemy import URL

from shop.local import environment, gateway, postgres_binaries, replicas
from shop.local.data_folder import DataFolder
from shop.local.database import ShopDatabase, admin_url
from shop.local.ports import LOOPBACK, Ports
from shop.local.postgres import START_SECONDS, Postgres, account_for, major_of
from shop.local.replicas import Replica
from shop.local.supervisor import Supervisor
from shop.project import CannotRun
from shop.topology import COORDINATOR, PARTICIPANTS, SERVICES

READY_SECONDS = 60
SERVICE_STOP_SECONDS = 2.0


@dataclass(frozen=True)
class Options:
    """What the user has asked for, by options or environment variables."""

    data: Path
    port: int
    replicas: int
    database_url: str | None
    pg_bin_dir: Path | None


def up(options: Options, say: Callable[[str], None]) -> None:
    """Run the shop until SIGINT or SIGTERM; raises CannotRun."""
    environment.check_settings()
    if options.database_url:
        admin_url(options.database_url)
    data = DataFolder(options.data)
    data.prepare()
    with ExitStack() as stack:
        supervisor = Supervisor(data, stack.enter_context(data.locked()), say)
        listener = stack.enter_context(_listener(options.port))
        ports = stack.enter_context(Ports())
        stack.enter_context(supervisor.obeying_signals())
        run = _Run(options, data, supervisor, ports, say)
        run.start(listener)
        while True:
            supervisor.pause()


def _listener(port: int) -> socket.socket:
    """Return the gateway's listening socket.

    It is ours for the whole run, whichever process accepts from it.
    """
    try:
        return socket.create_server((LOOPBACK, port), backlog=1024)
    except OSError as error:
        raise CannotRun(
            f"cannot listen on {LOOPBACK}:{port} ({os.strerror(error.errno or 0)}): set another SHOP_PORT"
        ) from None


@dataclass(frozen=True)
class _Run:
    options: Options
    data: DataFolder
    supervisor: Supervisor
    ports: Ports
    say: Callable[[str], None]

    def start(self, listener: socket.socket) -> None:
        """Start everything in order, and return when all is ready; raises CannotRun, Stopping."""
        secrets = self.data.secrets()
        database = self._database(secrets)
        database.provide()
        urls = {
            service: database.url(service.package).render_as_string(hide_password=False)
            for service in SERVICES
        }
        behind = [service for service in SERVICES if not database.is_migrated(service.package)]
        self.supervisor.run_to_end(
            *(replicas.migration(service, urls[service]) for service in behind)
        )
        self.say(f"database    {database.name}, a schema and a role for each service, migrated")
        plan = replicas.planned(self.options.replicas, self.ports)
        for services in (PARTICIPANTS, (COORDINATOR,)):
            group = [each for each in plan if each.of in services]
            programs = [replicas.program(each, plan, urls[each.of], secrets) for each in group]
            self.supervisor.keep(*programs, seconds_to_stop=SERVICE_STOP_SECONDS)
        for each in plan:
            self.say(f"{each.name:<11} public http://{each.public}, internal {each.internal_url}")
        url = self._start_gateway(plan, listener)
        self._tell_addresses(url, plan, database.admin)
        self._wait_until_ready(url, plan)
        self.say(f"data, logs and pid files are in {self.data.root}; Ctrl-C stops everything")
        self.say("ready")

    def _database(self, secrets: dict[str, str]) -> ShopDatabase:
        if self.options.database_url:
            admin = admin_url(self.options.database_url)
            self.say(
                f"PostgreSQL  the server on {admin.host or 'this machine'}:{admin.port or 5432} that DATABASE_URL names"
            )
            return ShopDatabase(admin, secrets, suffix=f"_{secrets['database_suffix']}")
        return ShopDatabase(self._start_postgres(secrets["postgres"]).url(), secrets)

    def _start_postgres(self, password: str) -> Postgres:
        folder = self.data.postgres
        binaries = postgres_binaries.find(
            account_for(folder), major_of(folder), self.options.pg_bin_dir
        )
        server = Postgres(binaries, folder, self.ports.reserve(), password)
        server.create(self.supervisor.run_to_end)
        self.supervisor.keep(
            server.program(), seconds_to_stop=1.8, before_start=server.forget_stale_lock
        )
        self.say(f"PostgreSQL  {binaries.version} of {binaries.folder} on {LOOPBACK}:{server.port}")
        if not self.supervisor.wait_until(server.is_answering, START_SECONDS):
            raise CannotRun(f"PostgreSQL does not answer:\n{self.data.log_tail('postgres')}")
        return server

    def _start_gateway(self, plan: Sequence[Replica], listener: socket.socket) -> str:
        behind = {
            service.host: [each.public for each in plan if each.of == service]
            for service in SERVICES
        }
        config = gateway.configuration(gateway.routes(), behind, listener.fileno())
        program = gateway.program(config, self.data.gateway, listener.fileno())
        self.supervisor.keep(program, seconds_to_stop=gateway.GRACE_SECONDS + 0.5)
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        self.say(f"gateway     {url}")
        return url

    def _tell_addresses(self, url: str, plan: Sequence[Replica], admin: URL) -> None:
        listeners = {
            each.name: {"public": f"http://{each.public}", "internal": each.internal_url}
            for each in plan
        }
        server = {"host": admin.host, "port": admin.port}
        self.data.write_addresses({"gateway": url, "postgres": server, "services": listeners})

    def _wait_until_ready(self, url: str, plan: Sequence[Replica]) -> None:
        """Return when every replica says that it is ready, and the gateway finds a ready one of each service."""
        waiting = {
            f"{base}{each.ready_path}": each.name
            for each in plan
            for base in (f"http://{each.public}", url)
        }
        with httpx.Client(trust_env=False, timeout=2) as client:
            for address, name in waiting.items():
                if not self.supervisor.wait_until(
                    partial(_is_ready, client, address), READY_SECONDS
                ):
                    raise CannotRun(
                        f"{name} is not ready; the end of its log says:\n{self.data.log_tail(name)}"
                    )


def _is_ready(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(address).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
