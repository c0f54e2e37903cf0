"""The services of the shop, named once: what runs, is deployed, backed up and audited is read from here.

A new participant is one more word in ``PARTICIPANTS``, beside its package, its table in the chart's
values, and its payload in order_service/order.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """One service; ``name`` is the word for it in settings, logs, and the coordinator's log."""

    name: str

    @property
    def package(self) -> str:
        """Return the name of its package, which is also that of its schema and its role."""
        return f"{self.name}_service"

    @property
    def host(self) -> str:
        """Return what it is called in a cluster."""
        return f"{self.name}-service"

    @property
    def key(self) -> str:
        """Return the name of the key that a participant shares with the coordinator."""
        return f"{self.name}_key"

    @property
    def prefix(self) -> str:
        """Return what begins the paths of its health endpoints and, at a participant, all others."""
        return "" if self == COORDINATOR else f"/{self.name}"


COORDINATOR = Service("order")
PARTICIPANTS = tuple(map(Service, ("payment", "stock", "delivery")))
SERVICES = (COORDINATOR, *PARTICIPANTS)
#: Their schemas.
PACKAGES = tuple(service.package for service in SERVICES)
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def in_words(number: int) -> str:
    """Return a small number as a word."""
    return _WORDS[number] if number < len(_WORDS) else str(number)
