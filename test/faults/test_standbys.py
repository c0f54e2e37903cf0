"""F23: a standby is promoted in place of its primary.

What it had not received is lost, and nobody inside can know it.

The asynchronous one is the negative control of every other row: orders are really lost, and the
oracles must say so.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from faults.crashing import Crashing, crashing_shop, until
from faults.load import Load
from faults.market import Market, assert_sound, wrongly_told
from faults.report import Row
from running_shop import Shop
from shop.local import postgres_binaries
from shop.local.database import connected
from shop.local.ports import Ports
from shop.local.postgres import ADMIN, Postgres, account_for

PASSWORD = "the-superuser's"  # noqa: S105 - of servers that live as long as a test
LOST_MIN = 20


@dataclass
class Pair:
    """A primary, and the standby that follows it."""

    primary: Postgres
    standby: Postgres

    @classmethod
    def started(cls, folder: Path, ports: Ports) -> "Pair":
        """Make both, and start them."""
        binaries = postgres_binaries.find(account_for(folder))
        primary = Postgres(binaries, folder / "primary", ports.reserve(), PASSWORD)
        primary.create()
        standby = Postgres(binaries, folder / "standby", ports.reserve(), PASSWORD)
        subprocess.run(["cp", "-a", primary.folder, standby.folder], check=True)
        _follow(standby, primary)
        primary.start()
        standby.start()
        return cls(primary, standby)

    def is_followed(self) -> bool:
        """Return whether the standby receives what the primary writes."""
        return (
            self._primary("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1
        )

    def is_waited_for(self) -> bool:
        """Return whether commits wait for the standby."""
        return (
            self._primary("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
        )

    def knowing_all(self) -> Callable[[], bool]:
        """Return a question: has the standby got by now all that is written at this moment?"""
        written = self._primary("SELECT pg_current_wal_lsn()")
        return lambda: bool(
            self._primary(f"SELECT replay_lsn >= '{written}' FROM pg_stat_replication")
        )

    def wait_for_standby(self) -> None:
        """Let each commit wait until the standby has it."""
        self._set(self.primary, "synchronous_standby_names", "*")

    def part(self) -> None:
        """Let the standby fall behind for good."""
        self._set(self.standby, "primary_conninfo", "")

    def fail_over(self) -> None:
        """Kill the primary, and let the standby take its place and its address."""
        self.primary.stop("immediate")
        self.standby.stop("fast")
        self.standby.port = self.primary.port
        self.standby.start()
        with connected(self.standby.url()) as connection:
            assert connection.execute(text("SELECT pg_promote()")).scalar_one()

    def _primary(self, question: str) -> object:
        with connected(self.primary.url()) as connection:
            return connection.execute(text(question)).scalar_one()

    def _set(self, server: Postgres, name: str, value: str) -> None:
        with connected(server.url()) as connection:
            connection.execute(text(f"ALTER SYSTEM SET {name} = '{value}'"))
            connection.execute(text("SELECT pg_reload_conf()"))


def _follow(standby: Postgres, primary: Postgres) -> None:
    signal = standby.folder / "standby.signal"
    signal.touch()
    owner = standby.folder.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)
    address = f"host=127.0.0.1 port={primary.port} user={ADMIN} password={PASSWORD}".replace(
        "'", "''"
    )
    with (standby.folder / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{address}'\n")


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Return a primary with a standby; both are gone afterwards."""
    with Ports() as ports:
        pair = Pair.started(tmp_path_factory.mktemp("pair"), ports)
        until(pair.is_followed, "the standby does not follow")
        yield pair
        pair.primary.stop("immediate")
        pair.standby.stop("immediate")


@contextlib.contextmanager
def _shop_on(pair: Pair, start_shop: Callable[..., Shop], **settings: str) -> Iterator[Crashing]:
    shop = start_shop(
        DATABASE_URL=pair.primary.url().render_as_string(hide_password=False), **settings
    )
    suffix = json.loads((shop.data / "secrets.json").read_text())["database_suffix"]
    admin = create_engine(pair.primary.url(f"shop_{suffix}"), pool_pre_ping=True)
    try:
        with crashing_shop(shop, admin=admin) as crashing:
            yield crashing
    finally:
        # Its database goes before the test does.
        shop.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_an_asynchronous_standby_has_lost_is_found(
    pair: Pair, start_shop: Callable[..., Shop], tell: Callable[[Row], None]
) -> None:
    """The oracles name exactly the lost orders.

    And a shop that has lived through it knows, and takes no more.
    """
    with _shop_on(pair, start_shop) as crashing:
        market = Market.opened(crashing.given)
        with Load(crashing.shop.address, market.bodies) as load:
            until(lambda: len(load.told.confirmed) > LOST_MIN, "no order was confirmed before")
            kept = dict(load.told.confirmed)
            until(pair.knowing_all(), "the standby does not catch up")
            pair.part()
            until(lambda: not pair.is_followed(), "the standby still follows")
            enough = len(load.told.confirmed) + LOST_MIN
            until(lambda: len(load.told.confirmed) > enough, "the standby lacks no order")
        failed_at = time.monotonic()
        pair.fail_over()

        def says_so() -> bool:
            answer = crashing.client.post("/orders", json=market.bodies[0])
            return answer.status_code == 503 and "restored" in answer.json()["detail"]

        until(says_so, "the shop takes orders on a database that has forgotten some")
        noticed_seconds = time.monotonic() - failed_at
        lost = set(wrongly_told(crashing.admin, load))

        told = load.told
        assert len(lost) >= LOST_MIN
        assert lost <= (told.confirmed.keys() | told.refused) - kept.keys()
        offered, confirmed, refused = (
            len(told.confirmed) + len(told.refused),
            len(told.confirmed),
            len(told.refused),
        )
        fault = "asynchronous standby promoted (must be found)"
        tell(Row(fault, offered, confirmed, refused, 0, noticed_seconds, len(lost)))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_synchronous_standby_loses_nothing(
    pair: Pair, start_shop: Callable[..., Shop], tell: Callable[[Row], None]
) -> None:
    """The same under load, with commits that wait.

    All laws hold, and every customer was told the truth.
    """
    pair.wait_for_standby()
    until(pair.is_waited_for, "commits do not wait for the standby")
    with _shop_on(pair, start_shop, SYNCHRONOUS_STANDBY_REQUIRED="true") as crashing:
        market = Market.opened(crashing.given)
        with Load(crashing.shop.address, market.bodies) as load:
            until(lambda: len(load.told.confirmed) > LOST_MIN, "no order was confirmed before")
            pair.fail_over()
            back, before = time.monotonic(), len(load.told.confirmed)
            until(
                lambda: len(load.told.confirmed) > before + LOST_MIN,
                "no order was confirmed afterwards",
                60,
            )

        tell(assert_sound(crashing, load, market, "synchronous standby promoted", back=back))
