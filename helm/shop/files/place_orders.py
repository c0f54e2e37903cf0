"""What `helm test` runs inside the cluster.

One order that must succeed and one that must be refused, and what both cost.

It takes the same way in as the Ingress does, the services' public ports, and needs nothing but
Python: images have no spare package.
"""
# ruff: noqa: INP001, T201 - a script that a pod is given, not a package; what it prints is the test's log

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def call(
    method: str, url: str, expected: int, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Call the shop, show the answer, and return it if it has the expected status."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - always http
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            status, answer = response.status, response.read()
    except HTTPError as error:
        with error:
            status, answer = error.code, error.read()
    print(f"{method} {url} -> {status} {answer.decode()}")
    if status != expected:
        raise SystemExit(f"expected {expected}")
    return dict(json.loads(answer))


def main() -> None:
    """Place both orders."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    ivan = {"name": "helm test", "balance": 110}
    user = call("POST", "http://payment-service/payment/users", 201, ivan)["user_id"]
    slot = call(
        "POST",
        "http://delivery-service/delivery/slots",
        201,
        {"starts_at": tomorrow, "couriers": ["Olga", "Petr"]},
    )
    apple, nothing = (
        call(
            "POST",
            "http://stock-service/stock/products",
            201,
            {"name": "apple", "price": 10, "quantity": quantity},
        )
        for quantity in (1, 0)
    )
    order = {
        "user_id": user,
        "items": [{"product_id": apple["product_id"], "quantity": 1}],
        "slot_id": slot["slot_id"],
    }
    placed = call("POST", "http://order-service/orders", 201, order)
    order["items"] = [{"product_id": nothing["product_id"], "quantity": 1}]
    refused = call("POST", "http://order-service/orders", 409, order)
    account = call("GET", f"http://payment-service/payment/users/{user}", 200)
    slot = call("GET", f"http://delivery-service/delivery/slots/{slot['slot_id']}", 200)
    seen = (
        placed["status"],
        refused["refusals"][0]["reason"],
        account["available"],
        slot["booked"],
        slot["available"],
    )
    if seen != ("confirmed", "out_of_stock", 100, 1, 1):
        raise SystemExit(f"one order must be paid for and delivered, and nothing else: {seen}")
    print("one order was confirmed, one was refused, and only the first cost anything")


main()
