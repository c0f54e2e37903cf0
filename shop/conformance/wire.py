"""Requests to the participant under trial, and a record of each, so that a broken rule can show the exchange that broke it."""

import json
import time
from dataclasses import dataclass

import httpx

from shop.project import CannotRun
from two_phase.http.paths import ROUND_PATH

TIMEOUT_SECONDS = 10
#: 503 means "nothing was done, say it again": so often, with so long between, before it counts as
#: no answer.
REPEATS_MAX, REPEAT_SECONDS = 5, 0.2
SHOWN_CHARACTERS = 600


class Broken(Exception):
    """The participant broke the rule; ``exchange`` is where it did, if not in the last one."""

    def __init__(self, why: str, exchange: "Exchange | None" = None) -> None:
        super().__init__(why)
        self.why = why
        self.exchange = exchange


class NotTried(Exception):
    """The rule could not be tried, for a reason that says nothing about it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; ``status`` is None where there was no answer.

    The key is never part of it.
    """

    request: str
    body: str
    status: int | None
    answer: str

    def lines(self) -> tuple[str, str]:
        """Return what was sent and what came back, a line each, cut to a length that can be read."""
        status = "no answer:" if self.status is None else str(self.status)
        return f"{self.request} {self.body}".rstrip(), f"{status} {_cut(self.answer)}".rstrip()


def _cut(text: str) -> str:
    rest = len(text) - SHOWN_CHARACTERS
    return text if rest <= 0 else f"{text[:SHOWN_CHARACTERS]} ... and {rest} more characters"


class Wire:
    """The way to one participant."""

    def __init__(self, client: httpx.Client, key: str, generation: int = 1) -> None:
        """Send with ``client``, whose base URL is the participant's, as a log of this ``generation`` that shares the ``key``."""
        self._client = client
        self.key = key
        self.generation = generation
        self.exchanges: list[Exchange] = []

    def post(self, body: str) -> Exchange:
        """Send a round with the right key, and the same again while the answer is 503."""
        for _ in range(REPEATS_MAX):
            exchange = self.send("POST", ROUND_PATH, body, f"Bearer {self.key}")
            if exchange.status != httpx.codes.SERVICE_UNAVAILABLE:
                return exchange
            time.sleep(REPEAT_SECONDS)
        return exchange

    def get(self, path: str) -> Exchange:
        """Ask with the right key."""
        return self.send("GET", path, "", f"Bearer {self.key}")

    def send(
        self, method: str, path: str, body: str, authorization: str | None, note: str = ""
    ) -> Exchange:
        """Send once; ``note`` says in the record what is special about it."""
        headers = {"Content-Type": "application/json"} if body else {}
        if authorization is not None:
            headers["Authorization"] = authorization
        status: int | None = None
        try:
            response = self._client.request(method, path, content=body.encode(), headers=headers)
            status, answer = response.status_code, response.text
        except httpx.HTTPError as failure:
            answer = repr(failure)
        exchange = Exchange(f"{method} {path}{note}", _cut(body), status, answer)
        self.exchanges.append(exchange)
        return exchange

    def is_answering(self) -> bool:
        """Return whether the participant takes a round, if only an empty one."""
        return self._empty_round().status == httpx.codes.OK

    def _empty_round(self) -> Exchange:
        return self.post(json.dumps({"generation": self.generation}))

    def check_reachable(self) -> None:
        """Raise CannotRun unless a participant takes the key here."""
        exchange = self._empty_round()
        if exchange.status is None:
            raise CannotRun(f"nobody answers: {exchange.answer}")
        if exchange.status == httpx.codes.UNAUTHORIZED:
            raise CannotRun("the key is not the participant's: it answers 401")
        if exchange.status == httpx.codes.NOT_FOUND:
            raise CannotRun(f"there is no {ROUND_PATH}: is this the participant's internal port?")
