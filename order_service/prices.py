"""What order_service knows of prices: what stock_service's refusals have told it.

An order for a product that this process has not sold yet carries no price for it, is refused with
the prices, and goes again. So there is one way for a price that is unknown and one that is stale,
and no cache to invalidate.
"""

from two_phase.coordinator.verdict import Verdict

PRICES_MAX = 200_000


class Prices:
    """The last price heard of each product; one per process."""

    def __init__(self) -> None:
        self._prices: dict[int, int] = {}

    def of(self, product_id: int) -> int | None:
        """Return the price of a product, as far as it is known."""
        return self._prices.get(product_id)

    def learn(self, verdict: Verdict) -> None:
        """Keep the prices with which stock_service has refused, if it has."""
        refusal = verdict.refusals.get("stock")
        if refusal is None:
            return
        told = refusal.facts.get("prices", {})
        self._prices.update({int(product_id): price for product_id, price in told.items()})
        while len(self._prices) > PRICES_MAX:
            self._prices.pop(next(iter(self._prices)))
