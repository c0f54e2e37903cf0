"""The laws that can be looked at only when nothing moves.

Everything adds up, and everybody says the same.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simulation.escrow import TRADES
from simulation.plan import SERVICES
from two_phase.messages import State
from two_phase.participant.branches import Branch

if TYPE_CHECKING:
    from simulation.world import World


def all_or_nothing(world: "World") -> Iterator[str]:
    """An order is confirmed if and only if its payment, its reservation and its booking are committed, for the same amount."""
    orders = world.disks["order"].tables["orders"]
    branches = {service: world.disks[service].tables["branches"] for service in SERVICES}
    committed = {
        service: {
            each
            for each, row in rows.items()
            if row.branch.state is State.COMMITTED and not is_forgotten(world, row.branch)
        }
        for service, rows in branches.items()
    }
    confirmed = {each for each, row in orders.items() if row["status"] == "confirmed"}
    for service, transaction_ids in committed.items():
        if transaction_ids - world.laws.named != confirmed - world.laws.named:
            yield f"{service} has committed {sorted(transaction_ids)}, the log has confirmed {sorted(confirmed)}"
            return
    for each in sorted(confirmed - world.laws.named):
        paid = payload(world, "payment", each).amount
        sold = sum(item.price * item.quantity for item in payload(world, "stock", each).items)
        if (
            not paid
            == sold
            == sum(item["price"] * item["quantity"] for item in orders[each]["items"])
        ):
            yield f"{each} costs {orders[each]['items']}, and {paid} was paid for {sold}"


def payload(world: "World", service: str, transaction_id: str) -> Any:
    """Return what a branch is about."""
    branch = world.disks[service].tables["branches"][transaction_id].branch
    return TRADES[service][0].model_validate_json(branch.payload)


def is_forgotten(world: "World", branch: Branch) -> bool:
    """Return whether a log that was restored, and not reconciled yet, has no row for a branch.

    It waits for a human (R12).
    """
    return (
        "order" in world.laws.restored
        and branch.transaction_id not in world.disks["order"].tables["orders"]
    )


def conserved(world: "World") -> Iterator[str]:
    """What there was is available, or a branch has it (at rest only what a restored log has forgotten is held)."""
    has: Counter[tuple[str, int]] = Counter()
    for service in SERVICES:
        for each, row in world.disks[service].tables["branches"].items():
            if row.branch.state is not State.ABORTED:
                has.update(_taken(service, payload(world, service, each)))
    there_was, left = _opening(world), available(world)
    for what, amount in there_was.items():
        if amount != left[what] + has[what]:
            yield f"{what}: there was {amount}, {left[what]} is available and branches have {has[what]}"
    couriers = [each for slot in world.disks["delivery"].tables["slots"].values() for each in slot]
    couriers += [
        each for each in world.disks["delivery"].tables["bookings"].values() if each is not None
    ]
    if len(couriers) != len(set(couriers)):
        yield f"a courier is in two places: {sorted(map(str, couriers))}"


def _taken(service: str, wanted: Any) -> dict[tuple[str, int], int]:
    if service == "payment":
        return {("account", wanted.user_id): wanted.amount}
    if service == "delivery":
        return {("slot", wanted.slot_id): 1}
    return {("product", item.product_id): item.quantity for item in wanted.items}


def _opening(world: "World") -> dict[tuple[str, int], int]:
    return (
        {("account", user): amount for user, amount in world.plan.balances.items()}
        | {("product", product): quantity for product, (_, quantity) in world.plan.products.items()}
        | {("slot", slot): count for slot, count in world.plan.couriers.items()}
    )


def available(world: "World") -> dict[tuple[str, int], int]:
    """Return what is left of everything."""
    return (
        {
            ("account", user): amount
            for user, amount in world.disks["payment"].tables["accounts"].items()
        }
        | {
            ("product", product): row[1]
            for product, row in world.disks["stock"].tables["products"].items()
        }
        | {
            ("slot", slot): len(free)
            for slot, free in world.disks["delivery"].tables["slots"].items()
        }
    )


def one_order_per_key(world: "World") -> Iterator[str]:
    """A key has at most one final answer in the log, and every customer with this key got that one."""
    keys = world.disks["order"].tables["keys"]
    for order_request, told in world.customers.told:
        if told.order_id in world.laws.lost_refusals:
            continue
        if (
            order_request.key is not None
            and told.status in (201, 409)
            and keys.get((order_request.user_id, order_request.key)) != told.order_id
        ):
            yield f"{order_request.key} was answered by {told}, and the log says {keys.get((order_request.user_id, order_request.key))}"


def nothing_failed(world: "World") -> Iterator[str]:
    """When nothing goes wrong everybody gets a final answer."""
    if world.plan.healthy:
        for order_request, told in world.customers.told:
            if told.status not in (201, 409):
                yield f"{order_request} was answered by {told}"


AT_REST = (all_or_nothing, conserved, one_order_per_key, nothing_failed)
