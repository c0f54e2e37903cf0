"""Customers who order all the time, whatever fails.

Each order has a key and is repeated until it has its final answer.
"""

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

CLEAN = {201, 202, 409, 503}
FINAL = {201, 409}


@dataclass
class Told:
    """What customers have heard."""

    answers: Counter[int] = field(default_factory=Counter)
    #: Answers that nobody should hear, and connections that broke.
    unclean: list[str] = field(default_factory=list)
    #: The orders that were confirmed, by key.
    confirmed: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


class Load:
    """A few customers in threads.

    They stop when the block is left, after their last order is answered for good.
    """

    def __init__(
        self,
        address: str,
        bodies: list[dict[str, Any]],
        *,
        customers: int = 4,
        patience_seconds: float = 40,
    ) -> None:
        self.told = Told()
        self._address = address
        self._bodies = itertools.cycle(bodies)
        self._patience_seconds = patience_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._order_again_and_again) for _ in range(customers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _order_again_and_again(self) -> None:
        with httpx.Client(base_url=f"http://{self._address}", timeout=10) as client:
            while not self._stop.is_set():
                with self._lock:
                    body = next(self._bodies)
                self._order(client, body, str(uuid4()))

    def _order(self, client: httpx.Client, body: dict[str, Any], key: str) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while time.monotonic() < deadline:
            answer = self._answer(client, body, key)
            if answer is not None and answer.status_code in FINAL:
                with self._lock:
                    if answer.status_code == httpx.codes.CREATED:
                        self.told.confirmed[key] = answer.json()["order_id"]
                    else:
                        self.told.refused.add(key)
                return
            time.sleep(0.1)
        with self._lock:
            self.told.unclean.append(f"{key}: no final answer within {self._patience_seconds} s")

    def _answer(
        self, client: httpx.Client, body: dict[str, Any], key: str
    ) -> httpx.Response | None:
        try:
            answer = client.post("/orders", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            with self._lock:
                self.told.unclean.append(f"{key}: {error!r}")
            return None
        with self._lock:
            self.told.answers[answer.status_code] += 1
            if answer.status_code not in CLEAN or (
                answer.status_code == 503 and "retry-after" not in answer.headers
            ):
                self.told.unclean.append(f"{key}: {answer.status_code} {answer.text[:200]}")
        return answer
