"""The shop as it is measured.

`shop up` on a data folder of its own, filled by SQL, loaded at order_service's public port.

The gateway is left out on purpose, because the comparisons have none. The shop's PostgreSQL is the
server of all systems.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx
import psycopg2
from load import Orders
from seed import COURIERS_PER_SLOT, Size, seed
from systems import wait_until
from usage import Server

from shop import topology

COMPARISONS = Path(__file__).parent / "comparisons" / "tables.sql"
SERVICES = tuple(service.name for service in topology.SERVICES)
ITEMS_PER_ORDER = 100
#: As many prices are taught before a run: with more products, some orders learn their price while
#: they are measured.
TAUGHT_MAX = 100_000
STOP_SECONDS = 20
#: For the comparison that keeps transactions prepared; the shop itself needs none.
_PREPARED_TRANSACTIONS_MAX = 250
_NEXT_SLOT = """
    SELECT coalesce(max(slot_id), 0) + 1 FROM delivery_service.couriers
    WHERE position = 1 AND transaction_id IS NOT NULL AND slot_id > {spread}
"""


class Shop:
    """The four services and their database."""

    name = "shop"

    def __init__(
        self,
        folder: Path,
        size: Size,
        slots_in_a_row: int,
        *,
        clients: tuple[int, ...],
        replicas: int = 1,
    ) -> None:
        """Describe a shop with ``size`` to begin with, and ``slots_in_a_row`` more slots for orders that all meet in one."""
        self.clients = clients
        self.url = ""
        self.variants: Mapping[str, Callable[[], Orders]] = {
            "spread": lambda: Orders(f"1-{size.users}", f"1-{size.products}", f"1-{size.slots}"),
            "one product": lambda: Orders(f"1-{size.users}", "1-1", f"1-{size.slots}"),
            "1,000 of each": lambda: Orders("1-1000", "1-1000", f"1-{size.slots}"),
            "one account": lambda: Orders("1-1", "1-1", f"{self._next_slot()}+"),
        }
        self._folder = folder
        self.size = size
        self._slots_in_a_row = slots_in_a_row
        self._count = replicas
        self.replicas: Sequence[str] = ()
        self._addresses: dict[str, Any] = {}
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """Return the PostgreSQL server, while the shop runs."""
        assert self._server is not None
        return self._server

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start and fill the shop, and stop it at the end of the block."""
        output = self._folder / "shop.log"
        with output.open("ab") as log:
            shop = subprocess.Popen(
                [sys.executable, "-m", "shop", "up"],
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self._is_ready(shop, output), "the shop does not start")
            self._addresses = json.loads((self._folder / "run" / "addresses.json").read_text())
            self._server = Server(self.dsn("shop"), self._pid("postgres"))
            self._allow_prepared_transactions()
            self.url = self._orders("public")[0]
            self.replicas = [url.removeprefix("http://") for url in self._orders("public")]
            seed(self.server, replace(self.size, slots=self.size.slots + self._slots_in_a_row))
            self._teach_prices()
            yield
        finally:
            shop.send_signal(signal.SIGTERM)
            shop.wait(STOP_SECONDS)

    def pids(self) -> Mapping[str, int]:
        """Return the services' processes by name."""
        numbers = ["", *(f"-{number}" for number in range(2, self._count + 1))]
        return {
            f"{service}{number}": self._pid(f"{service}{number}")
            for service in SERVICES
            for number in numbers
        }

    def gateway(self) -> int:
        """Return the gateway's process."""
        return self._pid("gateway")

    def internal_requests(self) -> int:
        """Return how many rounds order_service has sent, by its own metrics."""
        pages = "\n".join(httpx.get(f"{url}/metrics").text for url in self._orders("internal"))
        rounds = re.findall(r"^two_phase_rounds_total\{.*\} (\S+)$", pages, re.MULTILINE)
        assert rounds, "the metrics have changed their names"
        return sum(int(float(each)) for each in rounds)

    def _orders(self, listener: str) -> list[str]:
        """Return the address of each replica of order_service."""
        names = [name for name in self._addresses["services"] if name.partition("-")[0] == "order"]
        return [self._addresses["services"][name][listener] for name in names]

    def confirmed(self) -> int | None:
        """Return how many confirmed orders stand in the decision log."""
        return int(
            self.server.value(
                "SELECT count(*) FROM order_service.orders WHERE status = 'confirmed'"
            )
        )

    def dsn(self, database: str) -> str:
        """Return the superuser's address of ``database``."""
        password = json.loads((self._folder / "secrets.json").read_text())["postgres"]
        return f"postgresql://postgres:{password}@127.0.0.1:{self._addresses['postgres']['port']}/{database}"

    def address(self, service: str) -> str:
        """Return the public address of ``service``."""
        return str(self._addresses["services"][service]["public"])

    @cached_property
    def comparisons_url(self) -> str:
        """The address of the comparisons' database for SQLAlchemy.

        It is made when it is asked for first.
        """
        self.server.run("CREATE DATABASE comparisons")
        dsn = self.dsn("comparisons")
        Server(dsn, self.server.pid).run(COMPARISONS.read_text())
        return dsn.replace("postgresql", "postgresql+psycopg2", 1)

    def _environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        own = {
            "SHOP_DATA": str(self._folder),
            "SHOP_PORT": "0",
            "SHOP_REPLICAS": str(self._count),
            "LOG_LEVEL": "WARNING",
        }
        return {**given, **own, "PYTHONDONTWRITEBYTECODE": "1"}

    def _is_ready(self, shop: "subprocess.Popen[bytes]", output: Path) -> bool:
        if shop.poll() is not None:
            raise RuntimeError(f"the shop did not start:\n{output.read_text()}")
        return "\nready\n" in output.read_text()

    def _pid(self, name: str) -> int:
        return int((self._folder / "run" / f"{name}.pid").read_text())

    def _allow_prepared_transactions(self) -> None:
        """Restart PostgreSQL with room for prepared transactions.

        The shop's supervisor brings it back by itself.
        """
        self.server.run(
            f"ALTER SYSTEM SET max_prepared_transactions = {_PREPARED_TRANSACTIONS_MAX}"
        )
        before = self.server.pid
        self.server.close()
        os.kill(before, signal.SIGINT)
        wait_until(lambda: self._came_back(before), "PostgreSQL does not come back")

    def _came_back(self, before: int) -> bool:
        try:
            pid = self._pid("postgres")
            if pid == before:
                return False
            self._server = Server(self.dsn("shop"), pid)
            ready = f"{self._addresses['services']['order']['public']}/health/ready"
            return httpx.get(ready).is_success
        except (OSError, httpx.TransportError, psycopg2.OperationalError):
            return False

    def _next_slot(self) -> int:
        return max(
            self.size.slots + 1, int(self.server.value(_NEXT_SLOT.format(spread=self.size.slots)))
        )

    def _teach_prices(self) -> None:
        """Order every product once: order_service learns a price from the first order for it, which takes a second round."""
        products = range(1, min(self.size.products, TAUGHT_MAX) + 1)
        with httpx.Client(timeout=20) as client:
            for url, first in itertools.product(
                self._orders("public"), range(0, len(products), ITEMS_PER_ORDER)
            ):
                items = [
                    {"product_id": each, "quantity": 1}
                    for each in products[first : first + ITEMS_PER_ORDER]
                ]
                slot_id = 1 + first // ITEMS_PER_ORDER % self.size.slots
                order = {"user_id": 1, "items": items, "slot_id": slot_id}
                wait_until(partial(_is_taken, client, url, order), "the shop takes no order")


def _is_taken(client: httpx.Client, url: str, order: dict[str, Any]) -> bool:
    """Order, and return whether it was confirmed.

    A 503 is no failure, PostgreSQL has just been restarted under the services.
    """
    answer = client.post(f"{url}/orders", json=order)
    return (
        answer.status_code != httpx.codes.SERVICE_UNAVAILABLE
        and answer.raise_for_status().is_success
    )


def slots_for(orders: int) -> int:
    """Return how many slots can take so many orders."""
    return -(-orders // COURIERS_PER_SLOT)
