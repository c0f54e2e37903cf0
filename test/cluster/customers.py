"""Customers who order all the time through the ingress, insist until they have a final answer, and check that it stays the same.

Each order carries a key. An answer is *clean* when the contract allows it while parts of the shop
come and go: 201, 409, 503, and 202 where only the decision log can tell. Anything else (500, 502,
504, a reset connection) is *broken*. After either kind that is not final the same order is sent
again with the same key, until it is 201 or 409; that answer is then asked for once more and must be
the same. In the end accounts, goods and couriers must have exactly what the confirmed orders cost.
"""

import asyncio
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import httpx

WORKERS = 8
PAUSE_SECONDS = 0.1
#: Longer than it takes to bring back anything that the programme takes away.
INSIST_SECONDS = 180
ANSWER_SECONDS = 15
BALANCE, PRICE, QUANTITY, COURIERS = 10_000_000, 10, 1_000_000, 1000
FINAL, CLEAN = (201, 409), (201, 202, 409, 503)


@dataclass
class Tally:
    """What customers were told."""

    first: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    slowest_seconds: float = 0
    confirmed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def orders(self) -> int:
        """Return how many orders were placed."""
        return sum(self.first.values())


@dataclass
class Market:
    """What there is to buy: enough for everybody, but for a poor user, an empty product and a slot without couriers."""

    users: list[int]
    products: list[int]
    slots: list[int]

    @classmethod
    async def opened(cls, client: httpx.AsyncClient) -> Self:
        """Create it."""
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        users = [
            {"name": "customer", "balance": balance}
            for balance in (BALANCE, BALANCE, BALANCE, BALANCE, PRICE)
        ]
        products = [
            {"name": "apple", "price": PRICE, "quantity": each}
            for each in (QUANTITY, QUANTITY, QUANTITY, 0)
        ]
        couriers = [f"c{number}" for number in range(COURIERS)]
        slots = [{"starts_at": tomorrow, "couriers": each} for each in (*[couriers] * 16, [])]
        return cls(
            [(await _made(client, "/payment/users", body))["user_id"] for body in users],
            [(await _made(client, "/stock/products", body))["product_id"] for body in products],
            [(await _made(client, "/delivery/slots", body))["slot_id"] for body in slots],
        )

    def wish(self, chance: random.Random) -> dict[str, Any]:
        """Return an order."""
        items = [{"product_id": chance.choice(self.products), "quantity": chance.randint(1, 3)}]
        return {
            "user_id": chance.choice(self.users),
            "items": items,
            "slot_id": chance.choice(self.slots),
        }


async def _made(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    response.raise_for_status()
    return dict(response.json())


def _reason(response: httpx.Response) -> str:
    """Return why there is no final answer.

    The problem's own words, or those of whoever stands before the shop.
    """
    try:
        return str(response.json().get("detail") or response.json().get("title"))
    except ValueError:
        return response.text.strip()[:60]


class Customers:
    """A crowd that orders inside a ``with`` block, in a thread of its own, and leaves a Tally."""

    def __init__(self, base_url: str) -> None:
        """Order at ``base_url``."""
        self._base_url = base_url
        self._stopping = threading.Event()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._crowd()))
        self.tally = Tally()

    def __enter__(self) -> Self:
        self._thread.start()
        self._opened.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    async def _crowd(self) -> None:
        try:
            async with httpx.AsyncClient(
                base_url=self._base_url, timeout=ANSWER_SECONDS, trust_env=False
            ) as client:
                market = await Market.opened(client)
                self._opened.set()
                await asyncio.gather(
                    *(
                        self._customer(client, market, random.Random(seed))
                        for seed in range(WORKERS)
                    )
                )
                await self._compare(client, market)
        except (httpx.HTTPError, KeyError) as failure:
            self.tally.complaints.append(f"the customers gave up: {failure!r}")
        finally:
            self._opened.set()

    async def _customer(
        self, client: httpx.AsyncClient, market: Market, chance: random.Random
    ) -> None:
        while not self._stopping.is_set():
            wish, key = market.wish(chance), str(uuid.uuid4())
            begun = time.monotonic()
            status, body = await self._final(client, wish, key)
            self.tally.slowest_seconds = max(self.tally.slowest_seconds, time.monotonic() - begun)
            if status == "201":
                self.tally.confirmed.append(body)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _final(
        self, client: httpx.AsyncClient, wish: dict[str, Any], key: str
    ) -> tuple[str, dict[str, Any]]:
        """Insist until the answer is final, and hear it once more if it was not the first."""
        status, body = await self._told(client, wish, key)
        self.tally.first[status] += 1
        begun, final = time.monotonic(), {str(each) for each in FINAL}
        repeated = status not in final
        while status not in final:
            if time.monotonic() - begun > INSIST_SECONDS:
                self.tally.complaints.append(f"no final answer for key {key}: {status}")
                return status, body
            await asyncio.sleep(0.5)
            status, body = await self._told(client, wish, key)
        if repeated:
            await self._hear_again(client, wish, key, (status, body["order_id"]))
        return status, body

    async def _hear_again(
        self, client: httpx.AsyncClient, wish: dict[str, Any], key: str, final: tuple[str, str]
    ) -> None:
        self.tally.repeats += 1
        status, body = await self._told(client, wish, key)
        if status in ("201", "409") and (status, body["order_id"]) != final:
            self.tally.complaints.append(
                f"key {key} was answered {final}, and then {(status, body['order_id'])}"
            )

    async def _told(
        self, client: httpx.AsyncClient, wish: dict[str, Any], key: str
    ) -> tuple[str, dict[str, Any]]:
        try:
            response = await client.post("/orders", json=wish, headers={"Idempotency-Key": key})
        except httpx.HTTPError as failure:
            status = type(failure).__name__
            self.tally.broken[status] += 1
            return status, {}
        status = str(response.status_code)
        if response.status_code not in CLEAN:
            self.tally.broken[status] += 1
        if response.status_code not in FINAL:
            self.tally.reasons[f"{status} {_reason(response)}"] += 1
        return status, response.json() if response.status_code in FINAL else {}

    async def _compare(self, client: httpx.AsyncClient, market: Market) -> None:
        """Compare what was bought with what is left: over the public API alone."""
        spent, sold, booked = Counter[int](), Counter[int](), Counter[int]()
        for order in self.tally.confirmed:
            spent[order["user_id"]] += order["total"]
            booked[order["slot_id"]] += 1
            for item in order["items"]:
                sold[item["product_id"]] += item["quantity"]
        for number, user in enumerate(market.users):
            opening = PRICE if number == len(market.users) - 1 else BALANCE
            await self._expect(
                client, f"/payment/users/{user}", {"balance": opening - spent[user], "held": 0}
            )
        for number, product in enumerate(market.products):
            opening = 0 if number == len(market.products) - 1 else QUANTITY
            await self._expect(
                client,
                f"/stock/products/{product}",
                {"quantity": opening - sold[product], "reserved": 0},
            )
        for slot in market.slots:
            await self._expect(
                client, f"/delivery/slots/{slot}", {"booked": booked[slot], "held": 0}
            )

    async def _expect(self, client: httpx.AsyncClient, path: str, expected: dict[str, int]) -> None:
        """Look until it is so; what died with its coordinator is given back after in_doubt_after."""
        seen: Any = None
        for _ in range(60):
            response = await client.get(path)
            seen = (
                {name: response.json().get(name) for name in expected}
                if response.is_success
                else response.status_code
            )
            if seen == expected:
                return
            await asyncio.sleep(0.5)
        self.tally.complaints.append(
            f"{path} is {seen}, and the confirmed orders make it {expected}"
        )
