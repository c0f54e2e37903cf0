"""What the three participants take and give back: money, goods, couriers.

The simplest that has every way of saying no.

The rows are accounts (what is available), products (price and what is available), slots (the free
couriers) and bookings (which courier a transaction took). What undecided orders hold is read from
their branches, as the services do it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from simulation.disk import LocalTransaction
from two_phase.errors import Refused
from two_phase.messages import State, Taken, TransactionId


class _Payload(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Charge(_Payload):
    """Money asked of one account."""

    user_id: int
    amount: int


class Item(_Payload):
    """So many of one product, at a price that may not be known yet."""

    product_id: int
    quantity: int
    price: int | None


class Reservation(_Payload):
    """Goods asked for."""

    items: list[Item]


class Booking(_Payload):
    """One courier asked for."""

    slot_id: int


Verdicts = list[Taken | Refused]
P = TypeVar("P", bound=BaseModel)


def _prepared(transaction: LocalTransaction, payload: type[Any]) -> list[Any]:
    rows = transaction.rows("branches").values()
    return [
        payload.model_validate_json(row.branch.payload)
        for row in rows
        if row.branch.state is State.PREPARED
    ]


class _Held(Generic[P]):
    """What undecided orders hold.

    Those of earlier rounds, read when they are needed first, and those of this one.
    """

    def __init__(
        self,
        transaction: LocalTransaction,
        payload: type[P],
        count: Callable[[P], Mapping[int, int]],
    ) -> None:
        self._transaction = transaction
        self._payload = payload
        self._count = count
        self._before: Counter[int] | None = None
        self._now: Counter[int] = Counter()

    def add(self, payload: P) -> None:
        """Count what was just taken."""
        self._now.update(self._count(payload))

    def __getitem__(self, key: int) -> int:
        if self._before is None:
            self._before = Counter()
            for each in _prepared(self._transaction, self._payload):
                self._before.update(self._count(each))
        return self._before[key] + self._now[key]


def take_money(
    transaction: LocalTransaction, asked: Sequence[tuple[TransactionId, Charge]]
) -> Verdicts:
    """Take each amount in the order of arrival.

    One that does not fit does not block a smaller one behind it.
    """
    verdicts: Verdicts = []
    held = _Held(transaction, Charge, lambda charge: {charge.user_id: charge.amount})
    for _, charge in asked:
        available = transaction.get("accounts", charge.user_id)
        if available is None:
            verdicts.append(Refused("unknown_user", "there is no such user"))
        elif available < charge.amount:
            contended = charge.amount <= available + held[charge.user_id]
            verdicts.append(Refused("insufficient_funds", "too little", contended=contended))
        else:
            transaction.put("accounts", charge.user_id, available - charge.amount)
            held.add(charge)
            verdicts.append(Taken())
    return verdicts


def give_money_back(
    transaction: LocalTransaction, taken: Sequence[tuple[TransactionId, Charge]]
) -> None:
    """Give each amount back to its account."""
    for _, charge in taken:
        transaction.put(
            "accounts", charge.user_id, transaction.get("accounts", charge.user_id) + charge.amount
        )


def take_goods(
    transaction: LocalTransaction, asked: Sequence[tuple[TransactionId, Reservation]]
) -> Verdicts:
    """Take all items of each order, or none of that order."""
    verdicts: Verdicts = []
    held = _Held(
        transaction,
        Reservation,
        lambda taken: {item.product_id: item.quantity for item in taken.items},
    )
    for _, reservation in asked:
        refusal = _unfit(transaction, reservation, held)
        if refusal is not None:
            verdicts.append(refusal)
            continue
        for item in reservation.items:
            price, available = transaction.get("products", item.product_id)
            transaction.put("products", item.product_id, (price, available - item.quantity))
        held.add(reservation)
        verdicts.append(Taken())
    return verdicts


def _unfit(
    transaction: LocalTransaction, reservation: Reservation, held: _Held[Reservation]
) -> Refused | None:
    rows = {
        item.product_id: transaction.get("products", item.product_id) for item in reservation.items
    }
    if None in rows.values():
        return Refused("unknown_product", "there is no such product")
    if any(item.price != rows[item.product_id][0] for item in reservation.items):
        prices = {str(product_id): row[0] for product_id, row in rows.items()}
        return Refused("price_changed", "another price by now", facts={"prices": prices})
    if all(item.quantity <= rows[item.product_id][1] for item in reservation.items):
        return None
    contended = all(
        item.quantity <= rows[item.product_id][1] + held[item.product_id]
        for item in reservation.items
    )
    return Refused("out_of_stock", "too few", contended=contended)


def give_goods_back(
    transaction: LocalTransaction, taken: Sequence[tuple[TransactionId, Reservation]]
) -> None:
    """Put each item back on the shelf."""
    for _, reservation in taken:
        for item in reservation.items:
            price, available = transaction.get("products", item.product_id)
            transaction.put("products", item.product_id, (price, available + item.quantity))


def take_courier(
    transaction: LocalTransaction, asked: Sequence[tuple[TransactionId, Booking]]
) -> Verdicts:
    """Take one free courier of the slot for each order."""
    verdicts: Verdicts = []
    held = _Held(transaction, Booking, lambda booking: {booking.slot_id: 1})
    for transaction_id, booking in asked:
        free = transaction.get("slots", booking.slot_id)
        if free is None:
            verdicts.append(Refused("unknown_slot", "there is no such slot"))
        elif not free:
            verdicts.append(
                Refused("no_courier", "nobody is free", contended=held[booking.slot_id] > 0)
            )
        else:
            transaction.put("slots", booking.slot_id, free[1:])
            transaction.put("bookings", transaction_id, free[0])
            held.add(booking)
            verdicts.append(Taken(facts={"courier": free[0]}))
    return verdicts


def give_courier_back(
    transaction: LocalTransaction, taken: Sequence[tuple[TransactionId, Booking]]
) -> None:
    """Let the courier of each order go."""
    for transaction_id, booking in taken:
        courier = transaction.get("bookings", transaction_id)
        transaction.put("bookings", transaction_id, None)
        transaction.put(
            "slots", booking.slot_id, (*transaction.get("slots", booking.slot_id), courier)
        )


#: What makes a participant: its payload, how it takes, how it gives back.
TRADES: dict[str, tuple[type[Any], Callable[..., Verdicts], Callable[..., None]]] = {
    "payment": (Charge, take_money, give_money_back),
    "stock": (Reservation, take_goods, give_goods_back),
    "delivery": (Booking, take_courier, give_courier_back),
}
