"""What the log keeps of an order, and what of that a participant is asked for."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from two_phase.coordinator.rebuild import Lost, verdict_of
from two_phase.coordinator.verdict import Verdict
from two_phase.messages import Decision

#: The participants of every order, before any was added.
FIRST_PARTICIPANTS = frozenset({"payment", "stock", "delivery"})


class OrderItem(TypedDict):
    """So many of one product, at a price that may not be known yet."""

    product_id: int
    quantity: int
    price: int | None


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """What the log keeps of an order beside its decision."""

    user_id: int
    slot_id: int
    items: tuple[OrderItem, ...]
    key: str | None = None
    digest: str | None = None
    #: Another attempt follows where only a stale price or undecided orders stood in the way.
    may_be_repeated: bool = True

    @property
    def total(self) -> int | None:
        """The price of everything, or None while a price is unknown."""
        total = 0
        for item in self.items:
            if item["price"] is None:
                return None
            total += item["price"] * item["quantity"]
        return total


def payloads_of(record: OrderRecord) -> dict[str, dict[str, Any]]:
    """Return what each participant is asked for.

    The auditor holds their branches against the same.
    """
    return {
        # Without a price the order is refused by stock anyway, so nothing is asked of the account.
        "payment": {"user_id": record.user_id, "amount": record.total or 0},
        "stock": {"items": list(record.items)},
        "delivery": {"slot_id": record.slot_id},
    }


def memo_of(record: OrderRecord) -> dict[str, Any] | None:
    """Return what all participants keep for a log that may be lost.

    The key, and what they do not know by their own payload.
    """
    if record.key is None:
        return None
    return {
        "key": record.key,
        "digest": record.digest,
        "user_id": record.user_id,
        "last": not record.may_be_repeated,
    }


def is_repeatable(verdict: Verdict) -> bool:
    """Return whether nothing but a stale price or undecided orders stood in this order's way (R9 and R11)."""
    refusals = verdict.refusals.values()
    stale_price = any(vote.reason == "price_changed" for vote in refusals)
    return bool(refusals) and (stale_price or all(vote.contended for vote in refusals))


def is_repeated(verdict: Verdict) -> bool:
    """Return whether another attempt follows, which the customer hears of instead of this one."""
    return (
        verdict.transaction.record.may_be_repeated and is_repeatable(verdict) and not verdict.silent
    )


def refusals_of(verdict: Verdict) -> list[dict[str, str | None]]:
    """Return the refusals as the customer sees them; none if this is no final answer."""
    if is_repeated(verdict) or (verdict.silent and is_repeatable(verdict)):
        return []
    return [
        {"participant": name, "reason": vote.reason, "detail": vote.detail}
        for name, vote in verdict.refusals.items()
    ]


def row_of(verdict: Verdict) -> dict[str, Any]:
    """Return what the log keeps of an order beside the decision on it."""
    record, confirmed = verdict.transaction.record, verdict.decision is Decision.CONFIRMED
    if not confirmed and is_repeated(verdict):
        # The customer hears of the next attempt alone, so this one leaves no order to look at.
        return {}
    refusals = [] if confirmed else refusals_of(verdict)
    final = confirmed or bool(refusals)
    return {
        "user_id": record.user_id,
        "slot_id": record.slot_id,
        "items": record.items,
        "total": record.total,
        "courier": str(verdict.votes["delivery"].facts.get("courier", "")) if confirmed else None,
        "refusals": refusals,
        "idempotency_key": record.key if final else None,
        "request_digest": record.digest if final else None,
    }


def kept_of(row: Mapping[str, Any]) -> OrderRecord | None:
    """Return what the log keeps of an order, from its row; None if only the decision is known."""
    if row["items"] is None:
        return None
    return OrderRecord(
        row["user_id"],
        row["slot_id"],
        tuple(row["items"]),
        row["idempotency_key"],
        row["request_digest"],
    )


def decision_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision as an auditor sees it, with what its branches must hold if that is known."""
    record = kept_of(row)
    # Rows from before the log kept it have none.
    members = row["participants"] or FIRST_PARTICIPANTS
    return {
        "transaction_id": row["transaction_id"],
        "decision": row["status"],
        "generation": row["generation"],
        "age_seconds": row["age_seconds"],
        "payloads": _of_members(payloads_of(record), members) if record else None,
        "memo": memo_of(record) if record else None,
    }


def row_of_lost(lost: Lost) -> dict[str, Any] | None:
    """Return the row that the log has lost, as far as the participants have kept their parts of it (R12).

    The amount and the user stand in payment's branch, the items with their prices in stock's, the
    slot in delivery's, the Idempotency-Key in the memo of each.
    """
    memos = [branch["memo"] for branch in lost.branches.values() if branch["memo"]]
    kept = {name: branch["payload"] for name, branch in lost.branches.items() if branch["payload"]}
    if kept.keys() >= FIRST_PARTICIPANTS:
        items = tuple(dict(item) for item in kept["stock"]["items"])
        record = _remembered(memos, kept["payment"]["user_id"], kept["delivery"]["slot_id"], items)
        payloads = _of_members(payloads_of(record), kept)
        if payloads == kept:
            return row_of(verdict_of(lost, payloads, record))
    return _refusal(lost, memos) if lost.decision is Decision.CANCELLED else None


def _refusal(lost: Lost, memos: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the answer to a key, where one participant had refused and another never heard what the order was about."""
    if not memos:
        return None
    record = _remembered(memos, memos[0]["user_id"], 0, ())
    row = row_of(verdict_of(lost, payloads_of(record), record))
    return row | {"slot_id": None, "items": None, "total": None} if row.get("refusals") else None


def _remembered(
    memos: Sequence[Mapping[str, Any]], user_id: int, slot_id: int, items: Any
) -> OrderRecord:
    memo = memos[0] if memos else {}
    return OrderRecord(
        user_id,
        slot_id,
        items,
        memo.get("key"),
        memo.get("digest"),
        may_be_repeated=not memo.get("last", False),
    )


def _of_members(
    payloads: Mapping[str, dict[str, Any]], members: Container[str]
) -> dict[str, dict[str, Any]]:
    return {name: payload for name, payload in payloads.items() if name in members}
