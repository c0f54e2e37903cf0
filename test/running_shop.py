"""A shop started by ``python -m shop up``: its gateway, its processes, its logs, its end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START_SECONDS = 90
STOP_SECONDS = 10
LOG_LINES_SHOWN = 25

#: What the caller's environment says of another shop must not reach the ones under test.
_NOT_INHERITED = ("DATABASE_URL", "SECRETS_DIR", "CRASH_POINTS_DIR")


@dataclass
class Shop:
    """A running shop: where its gateway listens, and where its files are."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    output: Path

    @property
    def address(self) -> str:
        """Return host:port of the gateway."""
        return f"127.0.0.1:{self.port}"

    def pid(self, name: str) -> int:
        """Return the process id of one of its processes, such as ``order`` or ``gateway``."""
        return int((self.data / "run" / f"{name}.pid").read_text())

    def services(self) -> dict[str, dict[str, str]]:
        """Return the base URLs of every process of a service, past the gateway."""
        return dict(json.loads((self.data / "run" / "addresses.json").read_text())["services"])

    def listener(self, name: str) -> str:
        """Return the base URL of one process's own public listener."""
        return self.services()[name]["public"]

    def wait_until_ready(self) -> None:
        """Return when it has said that it is ready; fails the test if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while "ready" not in self.output.read_text(errors="replace").splitlines():
            if self.process.poll() is not None:
                pytest.fail(
                    f"the shop ended with exit code {self.process.returncode} while starting\n{self.logs()}"
                )
            if time.monotonic() > deadline:
                pytest.fail(f"the shop was not ready within {START_SECONDS} seconds\n{self.logs()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it by SIGTERM; fails the test if it does not end in time, or not in order."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(
                f"the shop did not stop within {STOP_SECONDS} seconds of SIGTERM\n{self.logs()}"
            )
        if code:
            pytest.fail(f"the shop ended with exit code {code} after SIGTERM\n{self.logs()}")

    def logs(self) -> str:
        """Return the ends of its output and of all its logs."""
        files = [self.output, *sorted((self.data / "logs").glob("*"))]
        return "\n".join(f"--- {file.name}\n{_tail(file)}" for file in files if file.is_file())


def _tail(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _environment(port: int, data: Path, settings: dict[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.startswith("SHOP_")
    }
    own = {
        "SHOP_PORT": str(port),
        "SHOP_DATA": str(data),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'test'}",
    }
    return {**inherited, **own, **settings}


def launch(folder: Path, module: str = "shop", **settings: str) -> Shop:
    """Start a shop that keeps everything in ``folder``, on a free port, and return at once.

    ``module`` is what Python runs.
    """
    port, data, output = _free_port(), folder / "data", folder / "output.log"
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "up"],
            cwd=ROOT,
            env=_environment(port, data, settings),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Shop(process, port, data, output)
