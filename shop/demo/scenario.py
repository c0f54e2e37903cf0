"""The homework scenario in seven steps, played over the public API like any client would.

After each refusal it compares what the customer can see of the account, the product and the slot
with how they were before: a refused order has taken nothing, not even for a moment.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Json = dict[str, Any]

BALANCE = 110
BALANCE_LEFT = 90


class NotHeld(Exception):
    """An answer was not what the step demands."""


@dataclass(frozen=True)
class Step:
    """One step: what must be, and how to find out; ``play`` returns what was, or raises NotHeld."""

    number: int
    demand: str
    play: Callable[[], str]


@dataclass
class Scenario:
    """One play of the scenario; ``show`` is given each request and its answer."""

    client: httpx.Client
    show: Callable[[httpx.Request, Json | None, httpx.Response], None]
    ids: dict[str, int] = field(default_factory=dict)

    def steps(self) -> list[Step]:
        """Return the steps in the order in which they must be played."""
        plays: tuple[tuple[str, Callable[[], str]], ...] = (
            (f"a user with a balance of {BALANCE}, products and slots", self._create_all),
            ("buy for 10: confirmed, the balance is 100", lambda: self._buy(balance_after=100)),
            (
                "buy for 200: refused, insufficient_funds",
                lambda: self._fail("telescope", "busy", "payment", "insufficient_funds"),
            ),
            (
                "buy from an empty stock: refused, out_of_stock",
                lambda: self._fail("book", "busy", "stock", "out_of_stock"),
            ),
            (
                "a time with no couriers: refused, no_courier",
                lambda: self._fail("apple", "idle", "delivery", "no_courier"),
            ),
            ("buy for 10: confirmed", lambda: self._buy(balance_after=BALANCE_LEFT)),
            (
                f"the balance is {BALANCE_LEFT}: only successful orders count",
                self._only_successful_orders_count,
            ),
        )
        return [Step(number, demand, play) for number, (demand, play) in enumerate(plays, 1)]

    def _create_all(self) -> str:
        tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat(timespec="seconds")
        user = self._post("/payment/users", {"name": "Ivan", "balance": BALANCE})
        self.ids["user"] = user["user_id"]
        for name, price, quantity in (("apple", 10, 100), ("telescope", 200, 5), ("book", 10, 0)):
            product = self._post(
                "/stock/products", {"name": name, "price": price, "quantity": quantity}
            )
            self.ids[name] = product["product_id"]
        for name, couriers in (("busy", ["Olga", "Petr"]), ("idle", [])):
            self.ids[name] = self._post(
                "/delivery/slots", {"starts_at": tomorrow, "couriers": couriers}
            )["slot_id"]
        _demand(user["balance"] == BALANCE, f"the balance is {user['balance']}")
        return f"201, the balance is {BALANCE}"

    def _buy(self, balance_after: int) -> str:
        before = self._seen("apple", "busy")
        response = self._order("apple", "busy")
        order = response.json()
        _demand(
            response.status_code == httpx.codes.CREATED and order["status"] == "confirmed",
            _told(response),
        )
        user, product, slot = after = self._seen("apple", "busy")
        _demand(user["balance"] == user["available"] == balance_after, f"the balance is {user}")
        _demand(product["available"] == before[1]["available"] - 1, f"the stock is {product}")
        _demand(slot["booked"] == before[2]["booked"] + 1, f"the slot is {slot}")
        _demand(
            not any(part.get("held") or part.get("reserved") for part in after),
            "something is still held",
        )
        return f"201 confirmed, brought by {order['courier']}, the balance is {user['balance']}"

    def _fail(self, product: str, slot: str, participant: str, reason: str) -> str:
        before = self._seen(product, slot)
        response = self._order(product, slot)
        problem = response.json()
        refusals = [(each["participant"], each["reason"]) for each in problem.get("refusals", [])]
        _demand(
            response.status_code == httpx.codes.CONFLICT and refusals == [(participant, reason)],
            _told(response),
        )
        _demand(problem["order_status"] == "cancelled", _told(response))
        after = self._seen(product, slot)
        _demand(before == after, f"{before} has become {after}")
        return f"409 {reason}; balance, stock and slot are as before"

    def _only_successful_orders_count(self) -> str:
        user = self.ids["user"]
        balance = self._get(f"/payment/users/{user}")["balance"]
        _demand(balance == BALANCE_LEFT, f"the balance is {balance}")
        paid = [
            each["amount"]
            for each in self._get(f"/payment/users/{user}/statement")["items"]
            if each["kind"] == "payment"
        ]
        _demand(paid == [10, 10], f"the statement lists payments of {paid}")
        statuses = [order["status"] for order in self._get(f"/orders?user_id={user}")["items"]]
        _demand(
            sorted(statuses) == ["cancelled"] * 3 + ["confirmed"] * 2, f"the orders are {statuses}"
        )
        return f"the balance is {BALANCE_LEFT}; two payments; two orders confirmed, three cancelled"

    def _order(self, product: str, slot: str) -> httpx.Response:
        item = {"product_id": self.ids[product], "quantity": 1}
        return self._send(
            "POST",
            "/orders",
            {"user_id": self.ids["user"], "items": [item], "slot_id": self.ids[slot]},
        )

    def _seen(self, product: str, slot: str) -> tuple[Json, Json, Json]:
        """Return the account, the product and the slot as a customer sees them."""
        return (
            self._get(f"/payment/users/{self.ids['user']}"),
            self._get(f"/stock/products/{self.ids[product]}"),
            self._get(f"/delivery/slots/{self.ids[slot]}"),
        )

    def _post(self, path: str, body: Json) -> Json:
        response = self._send("POST", path, body)
        _demand(response.status_code == httpx.codes.CREATED, _told(response))
        created: Json = response.json()
        return created

    def _get(self, path: str) -> Json:
        response = self._send("GET", path, None)
        _demand(response.status_code == httpx.codes.OK, _told(response))
        found: Json = response.json()
        return found

    def _send(self, method: str, path: str, body: Json | None) -> httpx.Response:
        response = self.client.request(method, path, json=body)
        self.show(response.request, body, response)
        return response


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads like an assertion
    if not holds:
        raise NotHeld(otherwise)


def _told(response: httpx.Response) -> str:
    return f"the answer was {response.status_code} {response.text}"
