"""Every single fault and every pair of faults of one order, enumerated.

A run without faults tells all places where something can go wrong; each fault at each place is a
run; and each of those tells the places behind its fault, where a second one may strike. Nothing is
left to chance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from order_service.checkout import OrderRequest
from simulation.fate import FAULTS, ChosenFate
from simulation.plan import Errand, Plan
from simulation.runs import Outcome, chosen_world, collecting
from simulation.world import World

# He loses patience after the shop's own deadline, and comes again while recovery looks after what
# he left behind.
_WITH_KEY = Errand(
    0.0,
    OrderRequest(1, {1: 2}, 1, "key"),
    pauses_seconds=(0.0, 0.5, 6.0),
    replicas=(0, 1, 0),
    patience_seconds=6.0,
)
_WITHOUT = Errand(0.0, OrderRequest(1, {1: 2}, 1), pauses_seconds=(0.0,), replicas=(0,))
# By then his second try is over, and whatever the first one left in doubt has been asked about.
_COMMIT = Plan(
    errands=(_WITH_KEY,),
    balances={1: 50},
    products={1: (10, 5)},
    couriers={1: 1},
    heal_at_seconds=9.0,
)
#: The order is committed; and, with one courier too few, everything that was taken is given back.
PATHS = {
    "commit": _COMMIT,
    "abort": replace(_COMMIT, couriers={1: 0}),
    # Who sends it again without a key orders again, and may.
    "commit without a key": replace(_COMMIT, errands=(_WITHOUT,), couriers={1: 2}),
    "abort without a key": replace(_COMMIT, errands=(_WITHOUT,), couriers={1: 0}),
}

#: In which the customer comes again when he has heard nothing, and the claim of his key can fail as
#: well.
KEYED_PATHS = ("commit", "abort")

Chosen = Mapping[int, str]


def singles(path: str) -> list[Chosen]:
    """Return every fault that can strike an order on this path."""
    _, fate = chosen_world(PATHS[path], {})
    return [{place: fault} for place, fault in _faults(fate, 0)]


def _faults(fate: ChosenFate, beginning: int) -> Iterator[tuple[int, str]]:
    for place, (kind, _) in enumerate(fate.places):
        if place >= beginning:
            for fault in FAULTS[kind]:
                yield place, fault


def run_with(path: str, first: Chosen, *, pairs: bool) -> Outcome:
    """Run an order with one fault and, if ``pairs``, once more with each second fault behind it."""
    outcome = Outcome()
    with collecting() as collect:
        fate = _run(path, first, outcome)
        if pairs:
            for place, fault in _faults(fate, max(first) + 1):
                _run(path, {**first, place: fault}, outcome)
                collect()
    return outcome


def _run(path: str, chosen: Chosen, outcome: Outcome) -> ChosenFate:
    world, fate = chosen_world(PATHS[path], chosen)
    _was_not_betrayed(path, chosen, world)
    outcome.add(
        f"{path} {sorted(chosen.items())} ({' and '.join(fate.places[place][1] for place in chosen)})",
        world,
    )
    return fate


def _was_not_betrayed(path: str, chosen: Chosen, world: World) -> None:
    """An order that fits is never refused, unless its branch is poisoned twice, and one that does not is never confirmed."""
    poisoned = list(chosen.values()) == ["poison", "poison"]
    for _, told in world.customers.told:
        if told.status == 201 if path.startswith("abort") else told.status == 409 and not poisoned:
            world.laws.broken.append(f"told_what_is_so: {told} on the path to {path}")
