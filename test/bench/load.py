"""The load generator of all measurements.

Wrk, one thread, with the orders of orders.lua or the paths of reads.lua.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("orders.lua")
READS = Path(__file__).with_name("reads.lua")
#: Longer than any answer should take; what takes longer is counted as lost.
PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Orders:
    """Which orders are sent: ranges of ids (FIRST-LAST).

    Slots as FIRST+ are filled one after the other.
    """

    users: str
    products: str
    slots: str


@dataclass(frozen=True)
class Counted:
    """What wrk has seen."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    #: Answers other than 2xx and 3xx.
    refused: int
    #: Requests without an answer: broken connections and time-outs.
    lost: int

    @property
    def per_second(self) -> float:
        """Return the requests that were answered with success per second."""
        return (self.requests - self.refused) / self.seconds


def provide() -> str:
    """Return wrk's version, after installing it where that is possible.

    Ends the run loudly where it is not.
    """
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        sys.stdout.write("installing wrk, the load generator\n")
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "wrk"], check=False, stdout=subprocess.DEVNULL
        )
    if shutil.which("wrk") is None:
        sys.exit(
            "THE LOAD GENERATOR IS MISSING: nothing was measured. Install wrk: apt-get install wrk"
        )
    return " ".join(
        subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True).stdout.split()[
            :2
        ]
    )


def send(
    url: str, orders: Orders, *, clients: int, seconds: int, replicas: Sequence[str] = ()
) -> Counted:
    """Place orders from ``clients`` connections, each of which sends the next order when it has its answer.

    Where there are ``replicas``, by host:port, the connections are shared out among them, with a
    thread for each.
    """
    command = [
        *(
            "wrk",
            "--threads",
            str(len(replicas) or 1),
            "--connections",
            str(clients),
            "--duration",
            f"{seconds}s",
        ),
        *("--timeout", f"{PATIENCE_SECONDS}s", "--script", str(SCRIPT), url, "--"),
        *(orders.users, orders.products, orders.slots, os.urandom(8).hex()),
    ]
    return _counted(command, {**os.environ, "REPLICAS": " ".join(replicas)})


def read(url: str, paths: Path, *, clients: int, seconds: int) -> Counted:
    """Get the ``paths`` of a file, one a line, in any order, from ``clients`` connections."""
    command = [
        *("wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s"),
        *("--timeout", f"{PATIENCE_SECONDS}s", "--script", str(READS), url, "--", str(paths)),
    ]
    return _counted(command, dict(os.environ))


def _counted(command: Sequence[str], environment: dict[str, str]) -> Counted:
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    found = re.search(r"^counted (\{.*\})$", said, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk did not count:\n{said}")
    return Counted(**json.loads(found[1]))
