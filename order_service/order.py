"""What the log keeps of an order, and what of that a participant is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from two_phase.coordinator.verdict import Verdict
from two_phase.messages import Decision


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


def row_of(verdict: Verdict, generation: int) -> dict[str, Any]:
    """Return the row that a verdict wants to write into the log."""
    transaction_id, record = verdict.transaction.transaction_id, verdict.transaction.record
    bare = {"transaction_id": transaction_id, "generation": generation}
    confirmed = verdict.decision is Decision.CONFIRMED
    if not confirmed and is_repeated(verdict):
        # The customer hears of the next attempt alone, so this one leaves no order to look at.
        return tombstone(bare)
    refusals = [] if confirmed else refusals_of(verdict)
    final = confirmed or bool(refusals)
    return bare | {
        "status": verdict.decision,
        "user_id": record.user_id,
        "slot_id": record.slot_id,
        "items": record.items,
        "total": record.total,
        "courier": str(verdict.votes["delivery"].facts.get("courier", "")) if confirmed else None,
        "refusals": refusals,
        "idempotency_key": record.key if final else None,
        "request_digest": record.digest if final else None,
    }


def tombstone(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a transaction that is cancelled and of which no more is known than what ``row`` says."""
    return {
        "transaction_id": row["transaction_id"],
        "generation": row["generation"],
        "status": Decision.CANCELLED,
        "idempotency_key": None,
    }
