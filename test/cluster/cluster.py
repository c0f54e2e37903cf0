"""The cluster that kubectl points to.

What the programme says to it, in kubectl's and helm's own words.
"""

import base64
import contextlib
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shop.deploy.kubernetes_tools import found
from shop.deploy.manifests import CHART, NAMESPACE
from shop.topology import SERVICES

RELEASE = "shop"
DEPLOYMENTS = tuple(service.host for service in SERVICES)
READY_SECONDS = 300


class CommandFailed(Exception):
    """kubectl, helm or newman did not do what it was asked to; the message is what it said."""


def run(*command: str, seconds: float = READY_SECONDS) -> str:
    """Run a command and return what it printed. Raises CommandFailed."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)}: no end after {seconds} s") from None
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*words: str, seconds: float = READY_SECONDS) -> str:
    """Run kubectl in the shop's namespace."""
    return run(found("kubectl"), f"--namespace={NAMESPACE}", *words, seconds=seconds)


@dataclass
class Release:
    """The chart's release, with the values and settings that this cluster needs."""

    values: list[Path] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)

    def upgrade(self, *settings: str) -> None:
        """Install or upgrade, and wait until all is ready."""
        options = [
            *(f"--values={path}" for path in self.values),
            *(f"--set={each}" for each in (*self.settings, *settings)),
        ]
        self._helm(
            "upgrade",
            "--install",
            RELEASE,
            str(CHART),
            "--create-namespace",
            "--wait",
            "--timeout=5m",
            *options,
        )

    def rollback(self) -> None:
        """Go back to the revision before, and wait until all is ready."""
        self._helm("rollback", RELEASE, "--wait", "--timeout=5m")

    def test(self) -> None:
        """Run the chart's own test."""
        self._helm("test", RELEASE)

    def uninstall(self) -> None:
        """Remove the release."""
        self._helm("uninstall", RELEASE, "--wait")

    def _helm(self, *words: str) -> None:
        run(found("helm"), f"--namespace={NAMESPACE}", *words, seconds=2 * READY_SECONDS)


def namespace_exists() -> bool:
    """Return whether something is there already."""
    return bool(
        kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name").strip()
    )


def remove_namespace() -> None:
    """Remove the namespace and all that is in it, volumes included."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")


def wait_until_ready() -> None:
    """Return when every pod that should be there is ready and no old one is left."""
    kubectl("rollout", "status", "statefulset/service-postgresql", f"--timeout={READY_SECONDS}s")
    for name in DEPLOYMENTS:
        kubectl("rollout", "status", f"deployment/{name}", f"--timeout={READY_SECONDS}s")
    eventually(
        lambda: not [pod for pod in pods() if pod["metadata"].get("deletionTimestamp")],
        "old pods are gone",
    )


def pods(selector: str = "app.kubernetes.io/component=service") -> list[dict[str, Any]]:
    """Return the pods that the selector chooses."""
    return list(
        json.loads(kubectl("get", "pods", f"--selector={selector}", "--output=json"))["items"]
    )


def secret() -> dict[str, str]:
    """Return the shop's passwords and keys."""
    data = json.loads(kubectl("get", "secret", "shop-secrets", "--output=json"))["data"]
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def eventually(holds: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Return as soon as ``holds``. Raises CommandFailed."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise CommandFailed(f"not within {seconds} s: {what}")
        time.sleep(0.5)


@contextlib.contextmanager
def forwarded(service: str, port: int) -> Iterator[int]:
    """Give a port of this machine that leads to ``port`` of a Service, inside the block."""
    command = [
        found("kubectl"),
        f"--namespace={NAMESPACE}",
        "port-forward",
        f"service/{service}",
        f":{port}",
    ]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        try:
            assert process.stdout is not None
            said = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            if said is None:
                complaints.seek(0)
                raise CommandFailed(f"no way to {service}: {complaints.read().strip()}")
            yield int(said[1])
        finally:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
