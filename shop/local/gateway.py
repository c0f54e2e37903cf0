"""The way in on one machine.

Caddy, told the same routes as the cluster's Ingress, because it reads them from the same file.

A path belongs to the longest prefix that matches it by whole segments, as `pathType: Prefix` says:
`/payment` and `/payment/users` are the payment service's, `/paymentx` is not. Any Host is taken. A
replica that refuses the connection is skipped; a service of which no replica answers is a 503 that
says when to come again. Only public listeners are behind it, so the internal ports and /metrics
cannot be reached.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shop.local.program import Program
from shop.project import CannotRun, project_file
from two_phase.http.client import IDLE_SECONDS

INGRESS = project_file("k8s/60-ingress.yaml")
RETRY_AFTER_SECONDS = 1
#: So long an unused connection of a client stays open: many clients and proxies keep theirs 90 s.
#: One to a service stays open as long as those of the services to each other.
CLIENT_IDLE_SECONDS = 110
#: Requests under way have so long when the gateway stops.
GRACE_SECONDS = 2


@dataclass(frozen=True)
class Route:
    """Paths under ``prefix`` go to ``service``, which is named as in the manifests: payment-service."""

    prefix: str
    service: str

    @property
    def pattern(self) -> str:
        """Return the regular expression of the paths that belong to this prefix."""
        return f"^{re.escape(self.prefix.rstrip('/'))}(/|$)"


def routes(manifest: Path = INGRESS) -> list[Route]:
    """Return the routes of the Ingress, the longest prefix first, as the first that matches wins."""
    rules = yaml.safe_load(manifest.read_text())["spec"]["rules"]
    paths = [path for rule in rules for path in rule["http"]["paths"]]
    assert all(
        path["pathType"] == "Prefix" and path["backend"]["service"]["port"] == {"name": "http"}
        for path in paths
    )
    table = [Route(path["path"], path["backend"]["service"]["name"]) for path in paths]
    return sorted(table, key=lambda route: len(route.prefix), reverse=True)


def configuration(
    table: Sequence[Route], replicas: Mapping[str, Sequence[str]], listener: int
) -> dict[str, Any]:
    """Return Caddy's configuration for ``replicas`` (host:port for each service), listening on the open socket ``listener``."""
    server = {
        "listen": [f"fd/{listener}"],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "read_header_timeout": "10s",
        "idle_timeout": f"{CLIENT_IDLE_SECONDS}s",
        "routes": [_route(route, replicas[route.service]) for route in table],
    }
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "apps": {"http": {"grace_period": f"{GRACE_SECONDS}s", "servers": {"shop": server}}},
    }


def program(config: Mapping[str, Any], folder: Path, listener: int) -> Program:
    """Return the gateway as a program; everything that it ever writes is in ``folder``."""
    path = folder / "caddy.json"
    path.write_text(json.dumps(config, indent=2) + "\n")
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    return Program(
        name="gateway",
        command=(caddy(), "run", "--config", str(path)),
        environment=homes,
        folder=folder,
        descriptors=(listener,),
    )


def caddy() -> str:
    """Return the Caddy that was installed beside this Python."""
    found = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if found is None:
        raise CannotRun("Caddy is missing: `make install` installs it")
    return found


def _route(route: Route, replicas: Sequence[str]) -> dict[str, Any]:
    proxy = {"handle": [_proxy(replicas)]}
    failed = {"handle": [_unavailable(route.service)]}
    return {
        "match": [{"path_regexp": {"pattern": route.pattern}}],
        "handle": [{"handler": "subroute", "routes": [proxy], "errors": {"routes": [failed]}}],
        "terminal": True,
    }


def _proxy(replicas: Sequence[str]) -> dict[str, Any]:
    proxy: dict[str, Any] = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": each} for each in replicas],
        # Shorter than a service keeps idle connections: it must not close one just as a request is
        # put on it.
        "transport": {
            "protocol": "http",
            "dial_timeout": "1s",
            "response_header_timeout": "30s",
            "keep_alive": {"idle_timeout": f"{IDLE_SECONDS}s"},
        },
    }
    if len(replicas) > 1:
        # Only what was never sent is tried again on another replica; a lone service is asked each
        # time, not avoided.
        proxy["load_balancing"] = {
            "selection_policy": {"policy": "round_robin"},
            "retries": len(replicas),
            "try_interval": "10ms",
        }
        proxy["health_checks"] = {"passive": {"fail_duration": "1s"}}
    return proxy


def _unavailable(service: str) -> dict[str, Any]:
    problem = {
        "type": "urn:shop:problem:unavailable",
        "title": "Service Unavailable",
        "status": 503,
        "detail": f"{service} does not answer; a request that changes something is safe to repeat with the same Idempotency-Key",
    }
    return {
        "handler": "static_response",
        "status_code": "503",
        "headers": {
            "Content-Type": ["application/problem+json"],
            "Retry-After": [str(RETRY_AFTER_SECONDS)],
        },
        "body": json.dumps(problem, separators=(",", ":")),
    }
