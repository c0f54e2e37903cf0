"""What tests have at the beginning: users, products, slots, and the body of an order for them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from answers import assert_json


@dataclass(frozen=True)
class Given:
    """Makes what a test needs: every call a new user, product or slot, so that no test meets another's."""

    client: httpx.Client

    def user(self, balance: int = 100) -> dict[str, Any]:
        """Return a new user."""
        return self._created("/payment/users", {"name": "Ivan", "balance": balance})

    def product(self, price: int = 10, quantity: int = 100) -> dict[str, Any]:
        """Return a new product."""
        return self._created(
            "/stock/products", {"name": "apple", "price": price, "quantity": quantity}
        )

    def slot(self, couriers: int = 2, *, after_seconds: float = 86_400) -> dict[str, Any]:
        """Return a new slot that starts ``after_seconds`` from now."""
        starts_at = (datetime.now(UTC) + timedelta(seconds=after_seconds)).isoformat()
        names = [f"Courier {number}" for number in range(couriers)]
        return self._created("/delivery/slots", {"starts_at": starts_at, "couriers": names})

    def order_body(
        self, *, balance: int = 100, price: int = 10, stock: int = 100, couriers: int = 2
    ) -> dict[str, Any]:
        """Return the body of an order for one unit, of a new user, product and slot."""
        user, product, slot = self.user(balance), self.product(price, stock), self.slot(couriers)
        items = [{"product_id": product["product_id"], "quantity": 1}]
        return {"user_id": user["user_id"], "items": items, "slot_id": slot["slot_id"]}

    def state_of(self, order_body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what an order may change, as it is now: the user, the slot and the products."""
        products = [f"/stock/products/{item['product_id']}" for item in order_body["items"]]
        paths = [
            f"/payment/users/{order_body['user_id']}",
            f"/delivery/slots/{order_body['slot_id']}",
            *products,
        ]
        return [self._read(path) for path in paths]

    def _created(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return assert_json(self.client.post(path, json=body), 201)

    def _read(self, path: str) -> dict[str, Any]:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return dict(response.json())
