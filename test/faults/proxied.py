"""A shop in which everything that one service says to another passes the proxy, in both directions."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, text

from faults.crashing import Crashing, crashing_shop
from faults.proxy import Link, Proxy
from running_shop import Shop
from shop import topology

PARTICIPANTS = tuple(participant.name for participant in topology.PARTICIPANTS)
SCHEMAS = topology.PACKAGES
#: Shorter, and less, than by default, so that what must not last longer can be seen not to.
DEADLINE_SECONDS, IN_DOUBT_SECONDS = 3.0, 2.0
QUEUE_LIMIT = 16
IMPATIENT = {
    "PREPARE_TIMEOUT_SECONDS": "1",
    "DECISION_TIMEOUT_SECONDS": "0.5",
    "CLIENT_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "IN_DOUBT_AFTER_SECONDS": str(IN_DOUBT_SECONDS),
    "SWEEP_INTERVAL_SECONDS": "0.25",
    "QUESTION_TIMEOUT_SECONDS": "0.5",
    "QUEUE_LIMIT": str(QUEUE_LIMIT),
    "BATCH_LIMIT": str(QUEUE_LIMIT),
}


@dataclass(frozen=True)
class Proxied(Crashing):
    """A shop whose services hear each other through ``links``.

    "order to payment", "payment to order".
    """

    proxy: Proxy
    links: dict[str, Link]

    def heal(self) -> None:
        """Let everything pass again, and return when the shop takes orders."""
        for link in self.links.values():
            link.heal()
        self.rest()


@contextlib.contextmanager
def proxied_shop(start_shop: Callable[..., Shop]) -> Iterator[Proxied]:
    """Start such a shop."""
    with TemporaryDirectory() as folder, Proxy() as proxy:
        # The services connect to each other before the shop is up, and before it has told its addresses.
        plan = Path(folder) / "plan.json"

        def internal(service: str) -> Callable[[], str]:
            return lambda: str(json.loads(plan.read_text())[service])

        there = {name: proxy.link(internal(name)) for name in PARTICIPANTS}
        back = {name: proxy.link(internal("order")) for name in PARTICIPANTS}
        surroundings = json.dumps(
            {
                "environment": {name: {"ORDER_URLS": link.url} for name, link in back.items()},
                "links": {name: link.url for name, link in there.items()},
                "plan": str(plan),
            }
        )
        shop = start_shop(module="faults.doctored", SURROUNDINGS=surroundings, **IMPATIENT)
        links = {f"order to {name}": link for name, link in there.items()}
        links |= {f"{name} to order": link for name, link in back.items()}
        with crashing_shop(shop) as made:
            yield Proxied(made.shop, made.points, made.client, made.given, made.admin, proxy, links)
        # The services must not outlive the proxy: they would wait for it while they stop.
        shop.stop()


def state_hash(admin: Engine) -> str:
    """Return a hash of every row of every table of the four schemas, but for the counters.

    They count repetitions too.
    """
    digest = hashlib.sha256()
    with admin.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        for schema in SCHEMAS:
            tables = connection.execute(
                text(
                    "SELECT tablename FROM pg_tables WHERE schemaname = :schema AND tablename NOT LIKE '%!_counters' ESCAPE '!'"
                    " ORDER BY 1"
                ),
                {"schema": schema},
            )
            for table in tables.scalars().all():
                rows = connection.execute(
                    text(f"SELECT row::text FROM {schema}.{table} AS row ORDER BY 1")
                ).scalars()
                digest.update("\n".join((f"{schema}.{table}", *rows)).encode())
    return digest.hexdigest()
