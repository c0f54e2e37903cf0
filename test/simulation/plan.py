"""What is going to happen in one run: who wants what and when, and what goes wrong at what time.

A seed decides all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from order_service.checkout import OrderRequest
from simulation.fate import DURATIONS, FAULTS

SERVICES = ("payment", "stock", "delivery")
PROCESSES = tuple(f"{service}-{replica}" for service in ("order", *SERVICES) for replica in (1, 2))
DATABASES = ("order", *SERVICES)

ORDERS = 8
USERS, PRODUCTS, SLOTS = (1, 2, 3), (1, 2), (1, 2)
_NOBODY = 99


@dataclass(frozen=True)
class Errand:
    """One customer who wants something, and how stubborn he is."""

    at_seconds: float
    order_request: OrderRequest
    #: Pauses before each try; only an order with a key is tried again.
    pauses_seconds: tuple[float, ...]
    #: To which replica each try goes first.
    replicas: tuple[int, ...]
    #: The same request is sent to both replicas at once.
    twice: bool = False
    #: Who waits so long has lost the connection; the shop's own deadline may be earlier or later.
    patience_seconds: float = 8.0


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong at a time of its own.

    ``what`` happens to ``target`` for so long.
    """

    at_seconds: float
    what: str
    target: str
    seconds: float = 0.0
    #: The other end, where a link is cut.
    other: str = ""


@dataclass(frozen=True)
class Plan:
    """A run, before it is run."""

    errands: tuple[Errand, ...]
    troubles: tuple[Trouble, ...] = ()
    balances: Mapping[int, int] = field(default_factory=dict)
    #: Price and quantity by product.
    products: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    #: Couriers by slot.
    couriers: Mapping[int, int] = field(default_factory=dict)
    #: Probability of a fault by the kind of place.
    rates: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FAULTS)
    #: The participants never ask: all that they hear, the participants must tell them.
    without_recovery: bool = False
    #: With 20 s the participants are slow to ask, and do not hide what others forget.
    in_doubt_after_seconds: float = 5.0
    #: Everything that goes wrong has begun by then.
    heal_at_seconds: float = 0.0
    #: Nothing goes wrong, and so every customer must get a final answer.
    healthy: bool = False
    #: The database that is replaced by an older backup of itself, which nobody announces.
    restored: str = ""
    #: After the run everything is said once more, and nonsense is said to everybody.
    probed: bool = False


def plan_of(seed: int) -> Plan:
    """Return the plan that belongs to a seed."""
    dice = Random(seed)
    character = dice.choice(_CHARACTERS)
    errands = _errands(dice)
    common: dict[str, Any] = {
        "errands": errands,
        "balances": {user: dice.choice((20, 50, 100, 1000)) for user in USERS},
        "products": {
            product: (dice.choice((5, 10)), dice.choice((3, 8, 100))) for product in PRODUCTS
        },
        "couriers": {slot: dice.choice((1, 4, 20)) for slot in SLOTS},
        "probed": dice.random() < 0.1,
        "in_doubt_after_seconds": dice.choice((5.0, 5.0, 20.0)),
    }
    if character == "restore":
        return Plan(**common | _restored(dice), rates=_rates(dice), heal_at_seconds=8.0)
    if character == "healthy":
        return Plan(**common, healthy=True)
    if character == "without recovery":
        return Plan(**common, **_without_recovery(dice), heal_at_seconds=8.0)
    if character == "obsessed":
        return Plan(**common, **_obsessed(dice), heal_at_seconds=8.0)
    troubles = _troubles(dice) if character != "messages" else ()
    if character == "sleeper":
        # It wakes when all is over, and believes that no time has passed.
        troubles += (Trouble(dice.random() ** 2 * 4, "sleep", dice.choice(PROCESSES[:2])),)
    return Plan(**common, rates=_rates(dice), troubles=troubles, heal_at_seconds=8.0)


_CHARACTERS = (
    "healthy",
    "without recovery",
    "messages",
    "sleeper",
    *("storm",) * 3,
    *("obsessed",) * 3,
    *("restore",) * 2,
)
#: How often a fault strikes at a place, before a run's own intensity; half of the kinds rest in a
#: run.
_RATES = {
    "request": 0.01,
    "answer": 0.01,
    "point": 0.005,
    "write": 0.03,
    "read": 0.03,
    "commit": 0.015,
}
_INTENSITIES = (0.3, 1.0, 3.0)


def _rates(dice: Random) -> dict[str, float]:
    intensity = dice.choice(_INTENSITIES)
    return {kind: rate * intensity * dice.randint(0, 1) for kind, rate in _RATES.items()}


#: A row that is visible and not flushed, and a message that finds it: too rare a pair to be left to
#: chance.
_RARELY_TOGETHER = [("commit", "unflushed"), ("request", "retried")]


def _obsessed(dice: Random) -> dict[str, Any]:
    """Return two faults that strike again and again, and perhaps one thing more.

    What needs two of a kind is found like this.
    """
    both = dice.sample([(kind, fault) for kind, faults in FAULTS.items() for fault in faults], 2)
    if dice.random() < 0.1:
        both = _RARELY_TOGETHER
    return {
        "faults": {
            kind: tuple(fault for other, fault in both if other == kind) for kind, _ in both
        },
        "rates": {kind: 0.02 if kind == "point" else dice.choice((0.05, 0.15)) for kind, _ in both},
        "troubles": _troubles(dice)[: dice.randint(0, 1)],
    }


def _restored(dice: Random) -> dict[str, Any]:
    """Return a run in which one database is replaced by an older backup of itself."""
    name = dice.choice(("order", "order", *SERVICES))
    backup_at_seconds, down_seconds = dice.random() * 2, 1.5 + dice.random()
    late_seconds = dice.choice((0.0, 4.0, 8.0))
    return {
        "restored": name,
        # Some come when the restore is over.
        "errands": tuple(
            replace(each, at_seconds=each.at_seconds + dice.choice((0.0, late_seconds)))
            for each in _errands(dice)
        ),
        "troubles": (
            *_troubles(dice)[:2],
            Trouble(backup_at_seconds, "backup", name),
            Trouble(backup_at_seconds + dice.random() * 3, "restore", name, down_seconds),
        ),
        "probed": False,
    }


def _errands(dice: Random) -> tuple[Errand, ...]:
    spread = dice.choice((0.0, 0.05, 1.0, 5.0))
    greed = dice.choice((1, 3, 6))
    errands: list[Errand] = []
    while len(errands) < ORDERS:
        key = f"key-{len(errands)}" if dice.random() < 0.6 else None
        order_request = OrderRequest(
            user_id=dice.choice(USERS) if dice.random() < 0.97 else _NOBODY,
            items={
                product: dice.randint(1, greed)
                for product in dice.sample(PRODUCTS, dice.randint(1, 2))
            },
            slot_id=dice.choice(SLOTS) if dice.random() < 0.97 else _NOBODY,
            key=key,
        )
        errands.append(_errand(dice, order_request, spread))
    return tuple(errands)


def _errand(dice: Random, order_request: OrderRequest, spread: float) -> Errand:
    tries = 3 if order_request.key else 1
    return Errand(
        at_seconds=spread * dice.random(),
        order_request=order_request,
        pauses_seconds=tuple(
            dice.choice((0.0, 0.2, 2.0, 6.0)) * dice.random() for _ in range(tries)
        ),
        replicas=tuple(dice.randint(0, 1) for _ in range(tries)),
        twice=order_request.key is not None and dice.random() < 0.3,
        patience_seconds=dice.choice((2.0, 5.5, 8.0)),
    )


def _troubles(dice: Random) -> tuple[Trouble, ...]:
    kinds = {
        "crash": (PROCESSES, "down"),
        "pause": (PROCESSES, "pause"),
        "long_pause": (PROCESSES, "long_pause"),
        "database": (DATABASES, "down"),
        "cut": (PROCESSES, "partition"),
        "price": (("stock",), "down"),
        "clock": (DATABASES, "clock"),
    }
    troubles: list[Trouble] = []
    for what, (targets, duration) in kinds.items():
        shortest, longest = DURATIONS[duration]
        troubles.extend(
            Trouble(
                at_seconds=dice.random() ** 2 * 6,
                what=what,
                target=dice.choice(targets),
                seconds=shortest + (longest - shortest) * dice.random() ** 2,
                other=dice.choice(PROCESSES),
            )
            for _ in range(dice.choice((0, 0, 1, 2)))
        )
    dice.shuffle(troubles)
    return tuple(troubles)


def _without_recovery(dice: Random) -> dict[str, Any]:
    """Return what may go wrong without a question ever being asked.

    Messages, and participants that die and keep their disks.
    """
    crashes = tuple(
        Trouble(dice.random() ** 2 * 6, "crash", dice.choice(PROCESSES[2:]), dice.random() * 3)
        for _ in range(dice.choice((0, 2)))
    )
    return {
        "without_recovery": True,
        "rates": {
            "request": dice.choice((0.05, 0.2)),
            "answer": dice.choice((0.05, 0.2)),
            "commit": dice.choice((0.0, 0.05)),
        },
        "faults": {**FAULTS, "commit": ("collision", "locked", "refused", "reply_lost")},
        "troubles": crashes,
    }
