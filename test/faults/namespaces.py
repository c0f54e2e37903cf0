"""A network namespace for each service and a bridge between them, so that any link can be cut, in one direction or in both.

    hub (10.77.0.1: PostgreSQL, gateway, customers) -- bridge -- order (.11), payment (.12), stock (.13), delivery (.14)

Whoever stands inside the block is in the hub with all that he starts. Nothing of it touches the
machine's own network.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from faults.needs import lacking, needed

HUB = "10.77.0.1"
ADDRESSES = {
    "order": "10.77.0.11",
    "payment": "10.77.0.12",
    "stock": "10.77.0.13",
    "delivery": "10.77.0.14",
}
_CLONE_NEWNET = 0x40000000
_WHY = "network namespaces must be made"


class Namespaces:
    """The namespaces of one test run."""

    def __init__(self) -> None:
        # Unique on this machine, and short enough for the name of an interface.
        self.prefix = f"s{os.getpid()}"
        self.names = {service: f"{self.prefix}{service[0]}" for service in ADDRESSES}
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def __enter__(self) -> Self:
        try:
            self._make()
            self._enter(Path("/run/netns") / self.prefix)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _set_namespace(self._outside)
        self._remove()
        os.close(self._outside)

    def cut(self, service: str, direction: str) -> None:
        """Lose what order_service and ``service`` send each other: "there", "back" or "both"."""
        order = ADDRESSES["order"]
        if direction in ("there", "both"):
            self._iptables(service, "-A", "INPUT", "-s", order, "-j", "DROP")
        if direction in ("back", "both"):
            self._iptables(service, "-A", "OUTPUT", "-d", order, "-j", "DROP")

    @contextlib.contextmanager
    def mended(self) -> Iterator[None]:
        """Let everything pass again at the end of the block."""
        try:
            yield
        finally:
            self.mend()

    def mend(self) -> None:
        """Let everything pass again."""
        for service in ADDRESSES:
            self._iptables(service, "-F")

    def _iptables(self, service: str, *rule: str) -> None:
        command = ["ip", "netns", "exec", self.names[service], "iptables", "-w", *rule]
        needed(command, "links must be cut")

    def _make(self) -> None:
        hub = self.prefix
        needed(["ip", "netns", "add", hub], _WHY)
        for command in (
            "link set lo up",
            "link add bridge type bridge",
            f"addr add {HUB}/24 dev bridge",
            "link set bridge up",
        ):
            needed(["ip", "-n", hub, *command.split()], _WHY)
        for service, address in ADDRESSES.items():
            name = self.names[service]
            needed(["ip", "netns", "add", name], _WHY)
            needed(
                [
                    "ip",
                    "-n",
                    hub,
                    "link",
                    "add",
                    name,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    name,
                ],
                _WHY,
            )
            needed(["ip", "-n", hub, "link", "set", name, "master", "bridge", "up"], _WHY)
            for command in (
                "link set lo up",
                f"addr add {address}/24 dev eth0",
                "link set eth0 up",
            ):
                needed(["ip", "-n", name, *command.split()], _WHY)
        self.mend()

    def _enter(self, namespace: Path) -> None:
        descriptor = os.open(namespace, os.O_RDONLY)
        try:
            _set_namespace(descriptor)
        except OSError as error:
            lacking(f"{_WHY}: {error}")
        finally:
            os.close(descriptor)

    def _remove(self) -> None:
        for name in (*self.names.values(), self.prefix):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _set_namespace(descriptor: int) -> None:
    """Move this thread, and all that it will start, to another network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
