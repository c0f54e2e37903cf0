"""Fills the shop's tables for a benchmark: seed.sql instead of a million requests."""

from dataclasses import asdict, dataclass
from pathlib import Path

from comparisons.order import PRICE
from usage import Server

#: The API lets a slot have so many couriers, and the benchmark keeps to it; each order needs one.
COURIERS_PER_SLOT = 1000
#: So much money and so many goods that no run can use them up.
PLENTY = 10**12
_SCRIPT = Path(__file__).with_name("seed.sql")
_ANALYZE = "VACUUM ANALYZE"


@dataclass(frozen=True)
class Size:
    """How many rows a shop begins with; ids are 1 to the number."""

    users: int
    products: int
    slots: int
    #: Orders of the past, confirmed and settled, beside all these.
    orders: int = 0


def seed(server: Server, size: Size) -> None:
    """Fill an empty shop's tables."""
    server.run(
        _SCRIPT.read_text().format(
            **asdict(size), couriers=COURIERS_PER_SLOT, plenty=PLENTY, price=PRICE
        )
    )
    server.run(_ANALYZE)
