"""Holds the services against each other on a live system.

The log is the truth, and every branch must agree with it.

    decisions of the log      a confirmed one has a live branch everywhere, equal to what was ordered; a cancelled one has none
    branches                  a committed one has a confirmed decision; none is in doubt for longer than the limit
    conservation              what was put in = what is available + what live branches have taken, in one snapshot each

All lists are read in the order of their ids and merged, so that memory does not grow with the shop.
What looks wrong may only be under way: it is looked at again, and reported if it still stands.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shop.operator.services import Services

PAGE = 500
#: How often something that looks wrong is looked at again before it is reported.
LOOKS = 5
NOBODY = "00000000-0000-0000-0000-000000000000"

Row = Mapping[str, Any]


@dataclass
class Findings:
    """What an audit has seen."""

    transactions: int = 0
    confirmed: int = 0
    cancelled: int = 0
    in_doubt: int = 0
    resources: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


@dataclass
class TransactionView:
    """One transaction as the log and its participants have it."""

    transaction_id: str
    decision: Row | None
    branches: dict[str, Row]

    def complaints(self, in_doubt_seconds: float) -> list[str]:
        """Return what is wrong with it."""
        decision = self.decision["decision"] if self.decision else None
        return [
            f"order {self.transaction_id}: {complaint}"
            for name in self.branches.keys()
            | (set(self._payloads()) if decision == "confirmed" else set())
            for complaint in self._complaints(decision, name, in_doubt_seconds)
        ]

    def _payloads(self) -> Mapping[str, Any]:
        return (self.decision or {}).get("payloads") or {}

    def _complaints(
        self, decision: str | None, name: str, in_doubt_seconds: float
    ) -> Iterator[str]:
        branch = self.branches.get(name)
        state = branch["state"] if branch else "missing"
        if decision == "confirmed" and state in ("missing", "aborted"):
            yield f"is confirmed, and {name}'s branch is {state}"
        if decision != "confirmed" and state == "committed":
            yield f"is {decision or 'unknown to the log'}, and {name}'s branch is committed"
        if branch and state == "prepared" and branch["age_seconds"] > in_doubt_seconds:
            yield f"{name}'s branch is in doubt for {branch['age_seconds']:.0f} s"
        if (
            decision == "confirmed"
            and branch
            and state != "aborted"
            and branch["payload"] != self._payloads()[name]
        ):
            yield f"{name} holds {branch['payload']}, and {self._payloads()[name]} was ordered"


def audit(
    services: Services,
    *,
    in_doubt_seconds: float = 10,
    look_seconds: float = 1,
    progress: Callable[[int], None] = lambda _seen: None,
) -> Findings:
    """Compare everything, and return what was found.

    Raises httpx.HTTPError if a service does not answer.

    What looks wrong is looked at again, ``look_seconds`` apart, before it counts.
    """
    findings = Findings()
    for view in views(services):
        findings.transactions += 1
        _count(findings, view)
        progress(findings.transactions)
        if view.complaints(in_doubt_seconds):
            findings.violations += _still_wrong(services, view, in_doubt_seconds, look_seconds)
    for name in services.participants:
        findings.resources[name], broken = services.conservation(name)
        findings.violations += [
            f"{name} {row['id']}: {row['put_in']} were put in, {row['available']} are available and {row['taken']} are taken"
            for row in broken
        ]
    return findings


def _count(findings: Findings, view: TransactionView) -> None:
    decision = view.decision["decision"] if view.decision else None
    findings.confirmed += decision == "confirmed"
    findings.cancelled += decision == "cancelled"
    findings.in_doubt += any(branch["state"] == "prepared" for branch in view.branches.values())


def views(services: Services) -> Iterator[TransactionView]:
    """Merge the log and the participants' branches, by transaction id."""
    # The participants are read before the log: a branch seen committed then has its decision in the
    # log already.
    streams = {name: _Stream(partial(_page, services, name)) for name in services.participants}
    log = _Stream(lambda after: services.decisions(after, PAGE))
    while True:
        heads = [stream.head() for stream in (*streams.values(), log)]
        ids = [head["transaction_id"] for head in heads if head]
        if not ids:
            return
        least = min(ids)
        branches = {name: row for name, stream in streams.items() if (row := stream.take(least))}
        yield TransactionView(least, log.take(least), branches)


def _page(services: Services, name: str, after: str) -> list[Row]:
    return services.branches(name, after, PAGE)


class _Stream:
    """A list read page by page, in the order of its transactions' ids."""

    def __init__(self, page: Callable[[str], list[Row]]) -> None:
        self._page = page
        self._rows: list[Row] = []
        self._at = 0
        self._after = NOBODY
        self._ended = False

    def head(self) -> Row | None:
        if self._at == len(self._rows) and not self._ended:
            self._rows, self._at = self._page(self._after), 0
            self._ended = len(self._rows) < PAGE
            if self._rows:
                self._after = self._rows[-1]["transaction_id"]
        return self._rows[self._at] if self._at < len(self._rows) else None

    def take(self, transaction_id: str) -> Row | None:
        row = self.head()
        if row is None or row["transaction_id"] != transaction_id:
            return None
        self._at += 1
        return row


def look(services: Services, transaction_id: str) -> TransactionView:
    """Return one transaction as the log and all participants have it now."""
    branches = {name: services.branch(name, transaction_id) for name in services.participants}
    return TransactionView(
        transaction_id,
        services.decision(transaction_id),
        {name: row for name, row in branches.items() if row},
    )


def _still_wrong(
    services: Services, view: TransactionView, in_doubt_seconds: float, look_seconds: float
) -> list[str]:
    complaints: list[str] = []
    for _ in range(LOOKS):
        complaints = look(services, view.transaction_id).complaints(in_doubt_seconds)
        if not complaints:
            break
        time.sleep(look_seconds)
    return complaints
