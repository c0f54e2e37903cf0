"""`shop demo`: a shop of its own on a free port, the homework scenario played on it, everything shown, everything removed.

It runs `shop up` on a new folder, so that a shop that is already running is not disturbed, and is a
mere client of it.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from shop.demo.scenario import Json, NotHeld, Scenario, Step
from shop.local.data_folder import DataFolder
from shop.local.database import ShopDatabase, admin_url
from shop.local.program import Program
from shop.project import ROOT, CannotRun

STOP_SECONDS = 12

#: A step, whether it held, and what was answered.
Played = tuple[Step, bool, str]


class _Stopped(BaseException):
    """The demo was asked to end."""


def demo(database_url: str | None) -> bool:
    """Play the scenario and return whether all of its steps held; raises CannotRun."""
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="shop-demo-"))
    try:
        with (
            _stoppable(),
            _shop(folder, database_url, console) as url,
            httpx.Client(base_url=url, trust_env=False, timeout=15) as client,
        ):
            played = list(_played(client, console))
    except _Stopped:
        return False
    finally:
        _forget(folder, database_url)
    console.print(_table(played))
    all_held = all(held for _, held, _ in played)
    console.print(
        "[bold green]all seven steps held" if all_held else "[bold red]not all steps held"
    )
    return all_held


def _played(client: httpx.Client, console: Console) -> Iterator[Played]:
    def show(request: httpx.Request, body: Json | None, response: httpx.Response) -> None:
        sent = f" {json.dumps(body)}" if body is not None else ""
        console.print(
            Text(
                f"  {request.method} {request.url.raw_path.decode()}{sent}",
                style="cyan" if body else "dim cyan",
            )
        )
        console.print(
            Text(f"    {response.status_code} {response.text}", style="" if body else "dim")
        )

    for step in Scenario(client, show).steps():
        console.print(Text(f"{step.number}. {step.demand}", style="bold"))
        try:
            yield step, True, step.play()
        except (NotHeld, httpx.HTTPError, ValueError, KeyError) as error:
            console.print(Text(f"  NOT HELD: {error!r}", style="bold red"))
            yield step, False, repr(error)


def _table(played: list[Played]) -> Table:
    table = Table(title="The homework scenario")
    for column in ("", "what must be", "what was", ""):
        table.add_column(column)
    for step, held, answer in played:
        table.add_row(
            str(step.number), step.demand, Text(answer), "[green]held" if held else "[red]NOT HELD"
        )
    return table


@contextlib.contextmanager
def _shop(folder: Path, database_url: str | None, console: Console) -> Iterator[str]:
    """Run `shop up` on ``folder`` inside the block; yields its address."""
    wishes = {"SHOP_DATA": str(folder), "SHOP_PORT": "0", "DATABASE_URL": database_url or ""}
    command = Program(
        name="shop",
        command=(sys.executable, "-m", "shop", "up"),
        environment={**os.environ, "PYTHONPATH": str(ROOT), **wishes},
        last_signal=signal.SIGTERM,
    )
    process = command.start(subprocess.PIPE)
    try:
        _wait_until_ready(process, console)
        yield json.loads((folder / "run" / "addresses.json").read_text())["gateway"]
    finally:
        process.terminate()
        process.communicate(timeout=STOP_SECONDS)
        console.print("the shop has stopped")


def _wait_until_ready(process: subprocess.Popen[bytes], console: Console) -> None:
    assert process.stdout
    for line in process.stdout:
        console.print(Text(line.decode(errors="replace").rstrip()))
        if line.strip() == b"ready":
            return
    raise CannotRun("the shop did not start")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block at once, so that what it has started is stopped."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget(folder: Path, database_url: str | None) -> None:
    """Remove the demo's folder, and its database and roles on a server not its own."""
    if database_url and (folder / "secrets.json").exists():
        secrets = DataFolder(folder).secrets()
        # A server that let nothing in has nothing to forget.
        with contextlib.suppress(CannotRun, DBAPIError):
            ShopDatabase(
                admin_url(database_url), secrets, suffix=f"_{secrets['database_suffix']}"
            ).drop()
    shutil.rmtree(folder, ignore_errors=True)
