"""`shop up` in surroundings that a test has doctored.

Services that are told other addresses, another time, another network.

``SURROUNDINGS`` is a JSON object. Its ``environment`` is what each process of a service finds in
its environment beside, or instead of, what the run has decided: ``{"payment": {"ORDER_URLS":
...}}``; "postgres" is one of them. Its ``links`` are where the coordinator finds its participants
instead. Its ``namespaces`` are the names of their network namespaces, if they have any; their
addresses are those of namespaces.py. Its ``plan`` is a file for the internal base URL of each
service, written before any of them starts.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from faults.namespaces import ADDRESSES, HUB
from shop.__main__ import app
from shop.local import postgres, replicas
from shop.local.ports import LOOPBACK
from shop.local.postgres import Postgres
from shop.local.program import Program, run_to_end
from shop.local.replicas import Replica
from shop.topology import COORDINATOR

_surroundings = json.loads(os.environ["SURROUNDINGS"])
_environment: Mapping[str, dict[str, str]] = _surroundings.get("environment", {})
_links: Mapping[str, str] = _surroundings.get("links", {})
_namespaces: Mapping[str, str] = _surroundings.get("namespaces", {})
_as_decided = replicas.program
_created = Postgres.create
_server = Postgres.program


def _program(
    replica: Replica, plan: Sequence[Replica], database_url: str, secrets: Mapping[str, str]
) -> Program:
    if "plan" in _surroundings:
        Path(_surroundings["plan"]).write_text(
            json.dumps({each.service: each.internal_url for each in plan})
        )
    program = _as_decided(replica, plan, database_url, secrets)
    program = replace(
        program, environment={**program.environment, **_environment.get(replica.service, {})}
    )
    if replica.of == COORDINATOR and _links:
        program = replace(program, environment=_linked(program.environment))
    return _elsewhere(program, replica, database_url) if _namespaces else program


def _linked(environment: Mapping[str, str]) -> dict[str, str]:
    participants = json.loads(environment["PARTICIPANTS"])
    for name, url in _links.items():
        participants[name]["urls"] = url
    return {**environment, "PARTICIPANTS": json.dumps(participants)}


def _elsewhere(program: Program, replica: Replica, database_url: str) -> Program:
    """Return the program in the namespace of its service, where PostgreSQL has the hub's address."""
    addresses = {
        "HOST": ADDRESSES[replica.service],
        "DATABASE_URL": database_url.replace(LOOPBACK, HUB),
    }
    command = ("nsenter", f"--net=/run/netns/{_namespaces[replica.service]}", *program.command)
    return replace(program, command=command, environment={**program.environment, **addresses})


def _postgres(server: Postgres) -> Program:
    program = _server(server)
    return replace(program, environment={**program.environment, **_environment.get("postgres", {})})


def _create(server: Postgres, run: Callable[[Program], None] = run_to_end) -> None:
    """Make the data folder of a server that takes connections from the namespaces."""
    _created(server, run)
    with (server.folder / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {HUB}/24 scram-sha-256\n")


def _doctor() -> None:
    replicas.program = _program
    Postgres.program = _postgres
    if _namespaces:
        Replica.public = property(lambda each: f"{ADDRESSES[each.service]}:{each.public_port}")
        Replica.internal_url = property(
            lambda each: f"http://{ADDRESSES[each.service]}:{each.internal_port}"
        )
        Postgres.create = _create
        postgres._SETTINGS["listen_addresses"] = f"{LOOPBACK},{HUB}"


if __name__ == "__main__":
    _doctor()
    app()
