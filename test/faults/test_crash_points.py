"""kill -9 of a real process at a named point of an order, on the way to a commit and on the way to an abort.

Each case sends one order with an Idempotency-Key while one point is armed, sees the point reached
and the process started again, repeats the order until it has its final answer, and then holds all
laws over the four schemas, with nothing in doubt.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from faults.crashing import Crashing, until_at_rest
from faults.report import Row
from shop import topology
from two_phase.crash_points import COORDINATOR_POINTS, PARTICIPANT_POINTS

PARTICIPANTS = tuple(participant.name for participant in topology.PARTICIPANTS)
#: After the last failed process is back, nothing may be in doubt for longer.
RESOLVED_SECONDS = 15
PATHS = ("commit", "abort")

#: What `make test` runs; `make faults` runs every point of every process.
QUICK = {
    ("order", "all_votes_in", "commit"),
    ("order", "decision_durable", "commit"),
    ("order", "decision_durable", "abort"),
    ("payment", "prepare_durable", "commit"),
    ("stock", "prepare_durable", "commit"),
    ("delivery", "prepare_durable", "commit"),
}
_RECOVERING = {"recovery_not_asked", "recovery_answered", "outcomes_durable"}
CASES = [
    (process, point, path)
    for process, points in (
        ("order", COORDINATOR_POINTS),
        *((name, PARTICIPANT_POINTS) for name in PARTICIPANTS),
    )
    for point in points
    for path in PATHS
]


def _marked(case: tuple[str, str, str]) -> Any:
    return pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow], id="-".join(case))


@pytest.mark.parametrize(("process", "point", "path"), [_marked(case) for case in CASES])
def test_laws_hold_after_a_crash_at(
    crashing: Crashing, tell: Callable[[Row], None], process: str, point: str, path: str
) -> None:
    """F1 to F4: wherever a process dies, an order happens everywhere or nowhere, and its client learns which."""
    crashing.rest()
    body = _order(crashing, process, path)
    before = crashing.given.state_of(body)
    key = str(uuid4())
    # A recovery pass is needed only where a coordinator died before it had decided.
    also = crashing.arm("order", "all_votes_in") if point in _RECOVERING else None
    wait = None if also and process == "order" else crashing.arm(process, point)

    with_crash = _sent(crashing, body, key)
    if also:
        also()
        wait = wait or crashing.arm(process, point)
        # Nobody but recovery may resolve these branches: the client is patient until then.
        wait()
    assert wait
    wait()
    crashing.rest()
    answer = crashing.final_answer(body, key)
    again = crashing.final_answer(body, key)
    seconds = until_at_rest(crashing.admin, RESOLVED_SECONDS)
    confirmed = int(answer.status_code == httpx.codes.CREATED)
    fault = f"kill -9 of {process} at {point}, {path} path"
    tell(Row(fault, 1, confirmed, 1 - confirmed, 0, seconds, 0))

    assert answer.status_code == (201 if path == "commit" else 409)
    assert again.json() == answer.json()
    assert with_crash is None or with_crash.status_code in (201, 409, 202, 503)
    user, slot, product = crashing.given.state_of(body)
    taken = 1 if path == "commit" else 0
    assert (before[0]["balance"] - user["balance"], user["held"]) == (10 * taken, 0)
    assert (slot["booked"], slot["held"]) == (taken, 0)
    assert (before[2]["quantity"] - product["quantity"], product["reserved"]) == (taken, 0)


def _order(crashing: Crashing, process: str, path: str) -> dict[str, Any]:
    """Return an order that everybody takes, or that one other participant than ``process`` refuses."""
    empty = {} if path == "commit" else {"stock": 0} if process == "payment" else {"balance": 0}
    body = crashing.given.order_body(**{"balance": 100, "stock": 1, "couriers": 1, **empty})
    # An order that is refused for its user teaches order_service the price, so that the next one
    # needs no second attempt.
    taught = crashing.client.post(
        "/orders", json={**body, "user_id": crashing.given.user(0)["user_id"]}
    )
    assert taught.status_code == httpx.codes.CONFLICT, taught.text
    return body


def _sent(crashing: Crashing, body: dict[str, Any], key: str) -> httpx.Response | None:
    try:
        return crashing.client.post("/orders", json=body, headers={"Idempotency-Key": key})
    except httpx.TransportError:
        return None
