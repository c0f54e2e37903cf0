"""F16: PostgreSQL's disk is full.

Orders are answered 503 while it is, and all of it resolves when there is space again.
"""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from faults.crashing import Crashing, crashing_shop, until
from faults.load import Load
from faults.market import Market, assert_sound
from faults.needs import needed
from faults.report import Row
from running_shop import Shop, launch

#: A new server's data, and room for some more.
DISK = "160m"
TURNED_AWAY = 100
RESOLVED_SECONDS = 60


@pytest.fixture
def small_disk(start_shop: Callable[..., Shop]) -> Iterator[tuple[Crashing, Path]]:
    """Return a shop whose PostgreSQL has a small disk of its own, and the folder where that is."""
    first = start_shop()
    first.stop()
    data = first.data / "postgres"
    owner = data.stat()
    elsewhere = data.rename(data.with_name("postgres.before"))
    data.mkdir()
    options = f"size={DISK},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    needed(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(data)], "a small disk must be mounted"
    )
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", str(data)], check=True)
        subprocess.run(["cp", "-a", f"{elsewhere}/.", str(data)], check=True)
        shop = launch(first.data.parent)
        stack.callback(shop.stop)
        shop.wait_until_ready()
        yield stack.enter_context(crashing_shop(shop)), data


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[Callable[[], None]]:
    """Fill the disk that ``folder`` is on, and empty it again.

    Yields a function that takes what has become free.
    """
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:

        def fill() -> None:
            for size in (2**20, 2**12):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

        try:
            yield fill
        finally:
            filler.unlink()


def _begin_new_wal(crashing: Crashing) -> None:
    """Make PostgreSQL need a new file for its log, as it does after some thousand orders.

    Without one it falls over.
    """
    with contextlib.suppress(DBAPIError), crashing.admin.connect() as connection:
        connection.execute(text("SELECT pg_switch_wal()"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["could not extend file", "PANIC"])
def test_a_full_disk_costs_503s_and_no_order(
    small_disk: tuple[Crashing, Path], tell: Callable[[Row], None], what: str
) -> None:
    """Nothing is lost and nothing is told twice.

    PostgreSQL refuses, or falls over and fails to start, until there is space.
    """
    crashing, disk = small_disk
    market = Market.opened(crashing.given)

    with Load(crashing.shop.address, market.bodies, patience_seconds=120) as load:
        until(lambda: len(load.told.confirmed) > 10, "no order was confirmed before")
        with _filled(disk) as fill:

            def rejected() -> bool:
                fill()
                if what == "PANIC":
                    _begin_new_wal(crashing)
                return load.told.answers[503] >= TURNED_AWAY

            until(rejected, "the disk was never full", 60)
        crashing.rest()

    said = (crashing.shop.data / "logs" / "postgres.log").read_text()
    assert any(what in line and "No space left on device" in line for line in said.splitlines())
    assert load.told.unclean == []
    tell(
        assert_sound(
            crashing, load, market, f"PostgreSQL's disk full: {what}", seconds=RESOLVED_SECONDS
        )
    )
