"""F15: the clock of one service, or PostgreSQL's, jumps by a month and back, under load, and while branches are in doubt.

Clocks decide how long to wait, never what is true. libfaketime moves them; FAKETIME_LIBRARY says
where it is, if it is not where Debian has it.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from faults.crashing import Crashing, crashing_shop, pid_of, until
from faults.load import Load
from faults.market import Market, assert_sound
from faults.needs import lacking
from faults.proxied import IMPATIENT
from faults.report import Row
from running_shop import Shop
from shop import topology

PROCESSES = (*(service.name for service in topology.SERVICES), "postgres")
MONTH_SECONDS = 30 * 86_400
CONFIRMED = 20


@dataclass(frozen=True)
class Clocks:
    """The clock of each process, in a file that it looks at whenever it wants to know the time."""

    folder: Path

    def set(self, process: str, offset: str) -> None:
        """Move a clock: ``+30d`` is a month ahead of the machine's, ``+0`` with it."""
        making = self.folder / f"{process}.new"
        making.write_text(f"{offset}\n")
        making.chmod(0o644)
        making.replace(self.folder / process)

    def environment(self, library: Path, process: str) -> dict[str, str]:
        """Return what makes a process look at its own clock.

        How long something takes it measures by the machine's.
        """
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / process),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Else the library takes waits for a lock, which go by that clock, for waits by the
            # other one.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


def _library() -> Path:
    named = os.environ.get("FAKETIME_LIBRARY")
    found = [Path(named)] if named else sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found or not found[0].exists():
        lacking(
            "libfaketime must move the clocks: apt-get install libfaketime, or name it in FAKETIME_LIBRARY"
        )
    return found[0]


@pytest.fixture(scope="module")
def moving(start_shop: Callable[..., Shop]) -> Iterator[tuple[Crashing, Clocks]]:
    """Return a shop in which every process has a clock of its own, and these."""
    library = _library()
    # PostgreSQL runs as another account, which may not enter the folders of the tests.
    folder = Path(tempfile.mkdtemp(prefix="clocks-"))
    folder.chmod(0o755)
    clocks = Clocks(folder)
    for process in PROCESSES:
        clocks.set(process, "+0")
    surroundings = json.dumps(
        {"environment": {process: clocks.environment(library, process) for process in PROCESSES}}
    )
    shop = start_shop(module="faults.doctored", SURROUNDINGS=surroundings, **IMPATIENT)
    with crashing_shop(shop) as crashing:
        yield crashing, clocks
    shop.stop()
    shutil.rmtree(folder)


def _postgres_is_wrong(crashing: Crashing, _load: Load) -> bool:
    with crashing.admin.connect() as connection:
        now = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    return abs(float(now) - time.time()) > MONTH_SECONDS / 2


def _order_is_wrong(_crashing: Crashing, load: Load) -> bool:
    # An order's id begins with the milliseconds at which it was made.
    made = [(UUID(each).int >> 80) / 1000 for each in list(load.told.confirmed.values())]
    return any(abs(each - time.time()) > MONTH_SECONDS / 2 for each in made)


#: Where a clock can be seen from outside.
_wrong: dict[str, Callable[[Crashing, Load], bool]] = {
    "postgres": _postgres_is_wrong,
    "order": _order_is_wrong,
}


@pytest.mark.slow
@pytest.mark.parametrize("offset", ["+30d", "-30d"])
@pytest.mark.parametrize("process", PROCESSES)
def test_a_clock_may_jump_by_a_month_and_back(
    moving: tuple[Crashing, Clocks], tell: Callable[[Row], None], process: str, offset: str
) -> None:
    """Orders go on while the clock is wrong.

    What a dead coordinator leaves in doubt is resolved when it is right again.
    """
    crashing, clocks = moving
    crashing.rest()
    market = Market.opened(crashing.given, after_seconds=3 * MONTH_SECONDS)
    coordinator = crashing.shop.pid("order")

    with Load(crashing.shop.address, market.bodies) as load:
        until(lambda: len(load.told.confirmed) >= CONFIRMED, "no order was confirmed before")
        clocks.set(process, offset)
        try:
            until(
                lambda: len(load.told.confirmed) >= 2 * CONFIRMED,
                "no order is confirmed with a wrong clock",
            )
            assert process not in _wrong or _wrong[process](crashing, load), (
                f"{process}'s clock did not move"
            )
            os.kill(coordinator, signal.SIGKILL)
        finally:
            clocks.set(process, "+0")
        until(
            lambda: pid_of(crashing.shop, "order") not in (None, coordinator),
            "order was not started again",
        )
        confirmed = len(load.told.confirmed)
        until(
            lambda: len(load.told.confirmed) >= confirmed + CONFIRMED,
            "no order is confirmed afterwards",
            40,
        )

    assert load.told.unclean == []
    tell(assert_sound(crashing, load, market, f"{process}'s clock jumps by {offset} and back"))
