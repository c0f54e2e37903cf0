"""The services' internal API for an operator: its addresses, keys and questions.

On a local run everything stands in SHOP_DATA. Elsewhere ORDER_URL, and PAYMENT_URL and the like for
each participant, name the internal listeners, and PAYMENT_KEY and the like are the keys that the
services share.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx

from shop import topology
from shop.project import CannotRun
from two_phase.http.paths import (
    BRANCHES_PATH,
    CONSERVATION_PATH,
    COUNTERS_PATH,
    DECISIONS_PATH,
    HOLD_PATH,
    REBUILD_PATH,
    RESUME_PATH,
    ROUND_PATH,
    STANDING_PATH,
)
from two_phase.messages import Ballot, Outcomes, Round

PARTICIPANTS = tuple(participant.name for participant in topology.PARTICIPANTS)

ORDER = topology.COORDINATOR.name

Row = Mapping[str, Any]


class Services:
    """The services as an operator reaches them."""

    def __init__(self, urls: Mapping[str, str], keys: Mapping[str, str]) -> None:
        """Take the base URL of each internal listener, and the key of each participant."""
        self.participants = PARTICIPANTS
        self._urls = urls
        # The coordinator accepts the key of any participant.
        self._keys = {**keys, ORDER: keys[PARTICIPANTS[0]]}
        self._client = httpx.Client(timeout=30, trust_env=False)

    @classmethod
    def found(cls, data: Path) -> Self:
        """Return the services that the environment names, or those of the local run on ``data``.

        Raises CannotRun.
        """
        if "ORDER_URL" in os.environ:
            return cls(*_from_environment())
        try:
            addresses = json.loads((data / "run" / "addresses.json").read_text())
            secrets = json.loads((data / "secrets.json").read_text())
        except FileNotFoundError:
            raise CannotRun(
                f"no shop runs on {data}: start one, set SHOP_DATA, or set ORDER_URL and the others"
            ) from None
        urls = {name: addresses["services"][name]["internal"] for name in (ORDER, *PARTICIPANTS)}
        return cls(urls, {each.name: secrets[each.key] for each in topology.PARTICIPANTS})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def decisions(self, after: str, limit: int) -> list[Row]:
        """Return decisions behind ``after``, by id."""
        return self._items(ORDER, DECISIONS_PATH, {"after": after, "limit": limit})

    def decision(self, transaction_id: str) -> Row | None:
        """Return the decision on one transaction."""
        return _only(transaction_id, self.decisions(_before(transaction_id), 1))

    def branches(self, name: str, after: str, limit: int) -> list[Row]:
        """Return branches of a participant behind ``after``, by id."""
        return self._items(name, BRANCHES_PATH, {"after": after, "limit": limit})

    def branch(self, name: str, transaction_id: str) -> Row | None:
        """Return a participant's branch of one transaction."""
        return _only(transaction_id, self.branches(name, _before(transaction_id), 1))

    def conservation(self, name: str) -> tuple[int, list[Row]]:
        """Return how many resources a participant has looked at, and those that do not add up."""
        body = self._answer("GET", name, CONSERVATION_PATH, timeout=600)
        return int(body["checked"]), list(body["broken"])

    def counters(self, name: str) -> Mapping[str, int]:
        """Return a participant's counter of forced rounds, and how far it has seen the log."""
        return self._answer("GET", name, COUNTERS_PATH)

    def raise_to(self, name: str, counter: int) -> None:
        """Lift a participant's counter."""
        self._answer("POST", name, COUNTERS_PATH, json={"counter": counter})

    def standing(self) -> Row:
        """Return how far the log has come, and which participants wait to be reconciled."""
        return self._answer("GET", ORDER, STANDING_PATH)

    def hold(self, restored: Sequence[str]) -> None:
        """Stop orders until these participants are reconciled."""
        self._answer("POST", ORDER, HOLD_PATH, json={"restored": list(restored)})

    def rebuild(self, lost: Sequence[Row]) -> Outcomes:
        """Have lost decisions written again, and return what the log says of each."""
        kept = [
            {**each, "branches": {name: dict(branch) for name, branch in each["branches"].items()}}
            for each in lost
        ]
        return Outcomes.model_validate(
            self._answer("POST", ORDER, REBUILD_PATH, json={"lost": kept})
        )

    def resume(self, log_counter: int, reconciled: list[str]) -> None:
        """Let orders flow again."""
        self._answer(
            "POST",
            ORDER,
            RESUME_PATH,
            json={"log_counter": log_counter, "reconciled": reconciled},
        )

    def round(self, name: str, message: Round) -> Ballot:
        """Send a round to a participant."""
        return Ballot.model_validate(
            self._answer("POST", name, ROUND_PATH, json=message.model_dump(exclude_unset=True))
        )

    def _items(self, name: str, path: str, parameters: dict[str, Any]) -> list[Row]:
        return list(self._answer("GET", name, path, params=parameters)["items"])

    def _answer(self, method: str, name: str, path: str, **options: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._keys[name]}"}
        response = self._client.request(method, self._urls[name] + path, headers=headers, **options)
        response.raise_for_status()
        return dict(response.json())


def _from_environment() -> tuple[dict[str, str], dict[str, str]]:
    try:
        urls = {name: _base_url(f"{name.upper()}_URL") for name in (ORDER, *PARTICIPANTS)}
        return urls, {name: os.environ[f"{name.upper()}_KEY"] for name in PARTICIPANTS}
    except KeyError as missing:
        raise CannotRun(f"ORDER_URL is set, but {missing.args[0]} is not") from None


def _base_url(variable: str) -> str:
    value = os.environ[variable].rstrip("/")
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise CannotRun(f"{variable} is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise CannotRun(f"{variable} must be a base URL, such as http://127.0.0.1:8001")
    return value


def _before(transaction_id: str) -> str:
    """Return the id just below ``transaction_id``, so that a list behind it begins with it."""
    return str(UUID(int=max(0, UUID(transaction_id).int - 1)))


def _only(transaction_id: str, rows: list[Row]) -> Row | None:
    return next((row for row in rows if row["transaction_id"] == transaction_id), None)
