"""Services as a reconciliation sees them, in memory: branches, a log, and what each was asked."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import httpx

from two_phase.messages import Ballot, Outcomes, Round, Vote

PARTICIPANTS = ("payment", "stock", "delivery")


PAYLOADS = {name: {"of": name} for name in PARTICIPANTS}


def identity(number: int) -> str:
    """Return an order id."""
    return f"00000000-0000-7000-8000-{number:012x}"


class Services:
    """A log and three participants in memory.

    What they are asked to do can fail after so many calls.
    """

    participants = PARTICIPANTS

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}
        self.held: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PARTICIPANTS}
        self.counted = {name: {"counter": 10, "log_seen": 5} for name in PARTICIPANTS}
        self.stands: dict[str, Any] = {
            "generation": 1,
            "written": 5,
            "heard": dict.fromkeys(PARTICIPANTS, 10),
            "restored": [],
        }
        #: Who takes part in an order, where not all do.
        self.members: dict[str, Sequence[str]] = {}
        self.refuses: set[str] = set()
        self.calls_left = 1000
        self.changed = 0

    def order(self, number: int, decision: str | None, **states: str) -> str:
        """Have an order with this decision, and these branches."""
        order_id = identity(number)
        if decision:
            self.orders[order_id] = decision
        for name, state in states.items():
            self.held[name][order_id] = {
                "transaction_id": order_id,
                "state": state,
                "generation": 1,
                "payload": PAYLOADS[name],
            }
        return order_id

    def standing(self) -> Mapping[str, Any]:
        """Return how far the log has come."""
        return deepcopy(self.stands)

    def counters(self, name: str) -> Mapping[str, int]:
        """Return a participant's counters."""
        return dict(self.counted[name])

    def decisions(self, after: str, limit: int) -> list[dict[str, Any]]:
        """Return decisions behind ``after``."""
        known = sorted(each for each in self.orders if each > after)[:limit]
        return [
            {
                "transaction_id": e,
                "decision": self.orders[e],
                "payloads": {name: PAYLOADS[name] for name in self.members.get(e, PARTICIPANTS)},
                "memo": {"of": e},
            }
            for e in known
        ]

    def branches(self, name: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return branches behind ``after``."""
        return [deepcopy(row) for each, row in sorted(self.held[name].items()) if each > after][
            :limit
        ]

    def hold(self, restored: Sequence[str]) -> None:
        """Note who was restored."""
        self._called()
        self.stands["restored"] = sorted({*self.stands["restored"], *restored})

    def raise_to(self, name: str, counter: int) -> None:
        """Lift a counter."""
        self._called()
        self.counted[name]["counter"] = max(self.counted[name]["counter"], counter)

    def resume(self, log_counter: int, reconciled: Sequence[str]) -> None:
        """Let orders flow again."""
        self._called()
        if self.stands["written"] < log_counter:
            self.stands |= {"written": log_counter, "generation": self.stands["generation"] + 1}
        self.stands["restored"] = [
            each for each in self.stands["restored"] if each not in reconciled
        ]

    def rebuild(self, lost: Sequence[Mapping[str, Any]]) -> Outcomes:
        """Write lost decisions again, first writer wins."""
        self._called()
        for each in lost:
            self.orders.setdefault(each["transaction_id"], each["decision"])
        said = {each["transaction_id"]: self.orders[each["transaction_id"]] for each in lost}
        return Outcomes(
            confirmed=[each for each, word in said.items() if word == "confirmed"],
            cancelled=[each for each, word in said.items() if word == "cancelled"],
        )

    def round(self, name: str, message: Round) -> Ballot:
        """Apply prepares and commits."""
        self._called()
        votes = []
        for prepare in message.prepares:
            assert (prepare.payload, prepare.memo) == (
                PAYLOADS[name],
                {"of": prepare.transaction_id},
            )
            fits = prepare.transaction_id not in self.refuses
            self.order_of(name, prepare.transaction_id, "prepared" if fits else "aborted")
            reason = None if fits else "gone"
            votes.append(
                Vote(
                    transaction_id=prepare.transaction_id,
                    prepared=fits,
                    reason=reason,
                    detail=reason,
                )
            )
        for each in message.commits:
            assert self.held[name][each]["state"] != "aborted"
            self.held[name][each]["state"] = "committed"
        return Ballot(votes=votes, acknowledged=message.commits)

    def order_of(self, name: str, order_id: str, state: str) -> None:
        """Have a branch."""
        self.held[name][order_id] = {
            "transaction_id": order_id,
            "state": state,
            "generation": 1,
            "payload": PAYLOADS[name],
        }

    def _called(self) -> None:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise httpx.ConnectError("gone")
        self.changed += 1
