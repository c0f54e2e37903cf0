"""The services' processes: how many, on which ports, and with which settings each.

A replica keeps its ports for the whole run, because its peers were told them when they were
started.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shop.local import environment
from shop.local.ports import LOOPBACK, Ports
from shop.local.program import Program
from shop.project import ROOT, project_file
from shop.topology import COORDINATOR, PARTICIPANTS, Service

#: A service ends with these where its settings or its database are unusable, and would end so
#: again.
HOPELESS_CODES = frozenset({2, 3})


@dataclass(frozen=True)
class Replica:
    """One process of a service."""

    of: Service
    number: int
    public_port: int
    internal_port: int

    @property
    def name(self) -> str:
        """Return the name of its pid file and its log: payment, payment-2."""
        return self.service if self.number == 1 else f"{self.service}-{self.number}"

    @property
    def service(self) -> str:
        """Return the name of the service."""
        return self.of.name

    @property
    def public(self) -> str:
        """Return the public listener's host:port."""
        return f"{LOOPBACK}:{self.public_port}"

    @property
    def internal_url(self) -> str:
        """Return the internal listener's address."""
        return f"http://{LOOPBACK}:{self.internal_port}"

    @property
    def ready_path(self) -> str:
        """Return the path that tells whether the service is ready, here and through the gateway."""
        return f"{self.of.prefix}/health/ready"


def planned(count: int, ports: Ports) -> list[Replica]:
    """Return ``count`` replicas of each service, the participants first, as they are to be started first."""
    services = (*PARTICIPANTS, COORDINATOR)
    return [
        Replica(service, number, ports.reserve(), ports.reserve())
        for service in services
        for number in range(1, count + 1)
    ]


def program(
    replica: Replica, replicas: Sequence[Replica], database_url: str, secrets: Mapping[str, str]
) -> Program:
    """Return the process of ``replica``, which knows the internal listeners of all ``replicas`` that it works with."""

    def urls(service: Service) -> str:
        return ",".join(each.internal_url for each in replicas if each.of == service)

    if replica.of == COORDINATOR:
        participants = {
            each.name: {"urls": urls(each), "key": secrets[each.key]} for each in PARTICIPANTS
        }
        peers = {"PARTICIPANTS": json.dumps(participants)}
    else:
        peers = {"ORDER_URLS": urls(COORDINATOR), "ORDER_KEY": secrets[replica.of.key]}
    listeners = {
        "HOST": LOOPBACK,
        "PUBLIC_PORT": str(replica.public_port),
        "INTERNAL_PORT": str(replica.internal_port),
    }
    return Program(
        name=replica.name,
        command=(sys.executable, "-m", replica.of.package),
        environment={**_environment(database_url), **listeners, **peers},
        hopeless_codes=HOPELESS_CODES,
    )


def migration(service: Service, database_url: str) -> Program:
    """Return the program that migrates the schema of ``service``, as deployments run it."""
    return Program(
        name=f"migrate-{service.name}",
        command=(
            sys.executable,
            "-m",
            "alembic",
            "-c",
            str(project_file("config/alembic.ini")),
            "-n",
            service.package,
            "upgrade",
            "head",
        ),
        environment=_environment(database_url),
    )


def _environment(database_url: str) -> dict[str, str]:
    """Return the caller's settings, LOG_LEVEL and its like, with what the run decides on top."""
    # Between the services nobody speaks TLS: without this the HTTP client loads all certificate
    # authorities, 2 MB for each process.
    authorities = {} if "ssl" in database_url else {"SSL_CERT_FILE": os.devnull}
    return {
        "LOG_FORMAT": "console",
        **environment.of_a_service(),
        **authorities,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url,
    }
