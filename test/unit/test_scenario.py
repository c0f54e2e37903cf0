"""The demo's scenario notices a shop that breaks its promise: it must be able to fail."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shop.demo.scenario import NotHeld, Scenario

Json = dict[str, Any]


class TinyShop:
    """A shop of one process and a few lines, with a bug if one is asked for."""

    def __init__(self, bug: str = "") -> None:
        self.bug = bug
        self.user: Json = {"user_id": 1, "held": 0}
        self.products: dict[int, Json] = {}
        self.slots: dict[int, Json] = {}
        self.orders: list[Json] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        body = json.loads(request.content) if request.content else {}
        match request.method, request.url.path.strip("/").split("/"):
            case "POST", ["payment", "users"]:
                self.user |= body
                return httpx.Response(201, json=self._user())
            case "POST", ["stock", "products"]:
                product = {
                    "product_id": len(self.products),
                    "price": body["price"],
                    "available": body["quantity"],
                    "reserved": 0,
                }
                self.products[product["product_id"]] = product
                return httpx.Response(201, json=product)
            case "POST", ["delivery", "slots"]:
                slot = {
                    "slot_id": len(self.slots),
                    "free": body["couriers"],
                    "booked": 0,
                    "held": 0,
                }
                self.slots[slot["slot_id"]] = slot
                return httpx.Response(201, json=slot)
            case "POST", ["orders"]:
                return self._order(body)
            case "GET", path:
                return httpx.Response(200, json=self._read(path))
        raise AssertionError(request)

    def _order(self, body: Json) -> httpx.Response:
        product, slot = self.products[body["items"][0]["product_id"]], self.slots[body["slot_id"]]
        refusals = {
            ("payment", "insufficient_funds"): self.user["balance"] < product["price"],
            ("stock", "out_of_stock"): not product["available"],
            ("delivery", "no_courier"): not slot["free"],
        }
        refused = [{"participant": who, "reason": why} for (who, why), so in refusals.items() if so]
        self.orders.append(
            {"status": "cancelled" if refused else "confirmed", "amount": product["price"]}
        )
        if refused:
            # Each bug is one that a shop without two-phase commit would have.
            if self.bug == "keeps the money" and refused[0]["participant"] == "delivery":
                self.user["balance"] -= product["price"]
            if self.bug == "keeps the goods" and refused[0]["participant"] == "payment":
                product["available"] -= 1
            if self.bug == "keeps the courier" and refused[0]["participant"] == "stock":
                slot["booked"] += 1
            return httpx.Response(409, json={"order_status": "cancelled", "refusals": refused})
        self.user["balance"] -= product["price"]
        product["available"] -= 0 if self.bug == "delivers nothing" else 1
        slot["booked"] += 1
        return httpx.Response(201, json={"status": "confirmed", "courier": slot["free"].pop()})

    def _read(self, path: list[str]) -> Json:
        match path:
            case ["payment", "users", _]:
                return self._user()
            case ["stock", "products", number]:
                return self.products[int(number)]
            case ["delivery", "slots", number]:
                return self.slots[int(number)]
            case ["payment", "users", _, "statement"]:
                told = (
                    self.orders
                    if self.bug == "tells refused payments"
                    else [o for o in self.orders if o["status"] == "confirmed"]
                )
                return {"items": [{"kind": "payment", "amount": order["amount"]} for order in told]}
            case ["orders"]:
                return {"items": self.orders}
        raise AssertionError(path)

    def _user(self) -> Json:
        return {**self.user, "available": self.user["balance"]}


def _failed_steps(shop: Callable[[httpx.Request], httpx.Response]) -> list[int]:
    failed = []
    with httpx.Client(transport=httpx.MockTransport(shop), base_url="http://shop") as client:
        for step in Scenario(client, lambda *_: None).steps():
            try:
                step.play()
            except NotHeld:
                failed.append(step.number)
    return failed


def test_seven_steps_hold_on_a_shop_that_keeps_its_promise() -> None:
    """The scenario asks for nothing that a right shop does not do."""
    assert not _failed_steps(TinyShop())


@pytest.mark.parametrize(
    ("bug", "step"),
    [
        ("delivers nothing", 2),
        ("keeps the goods", 3),
        ("keeps the courier", 4),
        ("keeps the money", 5),
        ("tells refused payments", 7),
    ],
)
def test_step_fails_on_a_shop_that(bug: str, step: int) -> None:
    """A refused order that leaves a trace anywhere is noticed in the very step."""
    assert step in _failed_steps(TinyShop(bug))
