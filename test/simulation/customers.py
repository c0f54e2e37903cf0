"""The customers: they order, are told something or nothing, order again with the same key, and look at what they got."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from order_service.checkout import OrderRequest
from simulation.network import Peer
from simulation.plan import SERVICES, Errand
from two_phase.errors import Unavailable
from two_phase.messages import TransactionId

if TYPE_CHECKING:
    from simulation.world import World

#: The shop needs a moment to start.
_OPEN_SECONDS = 0.2
_LOOK_SECONDS = 5.0
_FINAL = (201, 409)


@dataclass(frozen=True)
class Told:
    """What a customer was told: a status, and the order it was about."""

    status: int
    order_id: TransactionId | None


#: What a customer knows who was sent away at once, or has lost the connection.
NOTHING = Told(0, None)


class Customers:
    """Everybody who wants something, and everything they were told."""

    def __init__(self, world: "World") -> None:
        self._world = world
        #: What was told, by whom it was told to: (wish, answer).
        self.told: list[tuple[OrderRequest, Told]] = []

    async def served(self, at_least_until_seconds: float) -> None:
        """Return when everybody has got an answer or has given up, and not before a time."""
        tasks = [asyncio.ensure_future(self._errand(errand)) for errand in self._world.plan.errands]
        await asyncio.sleep(at_least_until_seconds)
        await asyncio.gather(*tasks)

    async def _errand(self, errand: Errand) -> None:
        await asyncio.sleep(_OPEN_SECONDS + errand.at_seconds)
        for pause_seconds, replica in zip(errand.pauses_seconds, errand.replicas, strict=True):
            await asyncio.sleep(pause_seconds)
            answers = [self._ask(errand, replica)]
            if errand.twice:
                answers.append(self._ask(errand, 1 - replica))
            if any(await asyncio.gather(*answers)):
                break

    async def _ask(self, errand: Errand, replica: int) -> bool:
        """Order, and return whether that was final."""
        world, order_request = self._world, errand.order_request
        order = world.service_of("order")
        targets = [order[replica], order[1 - replica]]
        try:
            told: Told = await Peer(
                world.network, "customer", targets, errand.patience_seconds
            ).call("place", order_request)
        except Unavailable:
            self.told.append((order_request, NOTHING))
            return False
        world.note("customer %s is told %s", order_request.key, told)
        self.told.append((order_request, told))
        world.laws.was_told(order_request, told)
        if told.status in _FINAL:
            await self._look(told)
        return told.status in _FINAL

    async def _look(self, told: Told) -> None:
        """Look at one of the services whether it shows what was told."""
        world = self._world
        service = world.dice.choice(SERVICES)
        with suppress(Unavailable):
            shown = await Peer(
                world.network, "customer", world.service_of(service), _LOOK_SECONDS
            ).call("show", None)
            world.laws.was_shown(service, told, shown)
