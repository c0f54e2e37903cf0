"""F13: any link between order_service and a participant is cut, one way or both, at each moment of an order: 27 cases.

Real processes in network namespaces of their own, whose packets are lost. What is cut heals by
itself once packets pass again.
"""

import contextlib
import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from faults.crashing import Crashing, crashing_shop, until, until_at_rest
from faults.namespaces import Namespaces
from faults.proxied import IMPATIENT, IN_DOUBT_SECONDS, PARTICIPANTS
from faults.report import Row
from public_laws import Opening, broken_public_laws
from running_shop import Shop

#: Twice what a branch waits before it is asked about, and what TCP takes to find out that packets
#: pass again.
RESOLVED_SECONDS = 2 * IN_DOUBT_SECONDS + 10
DIRECTIONS = ("there", "back", "both")
#: Who sleeps where while the link is cut: the participant itself if nobody is named; nobody needs
#: to before the vote.
MOMENTS: dict[str, tuple[str | None, str | None]] = {
    "before the vote": (None, None),
    "after the vote": (None, "prepare_durable"),
    "after the decision": ("order", "decision_durable"),
}


@pytest.fixture(scope="module")
def apart(
    start_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Crashing, Namespaces]]:
    """Return a shop whose services live in network namespaces, and these."""
    points = tmp_path_factory.mktemp("points")
    with Namespaces() as namespaces:
        surroundings = json.dumps({"namespaces": namespaces.names})
        shop = start_shop(
            module="faults.doctored",
            SURROUNDINGS=surroundings,
            CRASH_POINTS_DIR=str(points),
            **IMPATIENT,
        )
        with crashing_shop(shop, points) as crashing:
            yield crashing, namespaces
        shop.stop()


def _expected(moment: str, direction: str) -> int:
    """Return what the customer hears.

    A vote that got through counts, also where its acknowledgement by TCP did not.
    """
    if moment == "before the vote" or (moment == "after the vote" and direction != "there"):
        return 503
    return 201


@contextlib.contextmanager
def _cut_at(
    crashing: Crashing, cut: Callable[[], None], process: str, point: str | None
) -> Iterator[Callable[[], None]]:
    """Cut the link at a point of a process, at once if there is none.

    Yields a function to call when the order is on its way.
    """
    if point is None:
        cut()
        yield lambda: None
        return
    pid = crashing.shop.pid(process)
    armed = crashing.points / f"{point}.{pid}"
    armed.write_text(str(int(signal.SIGSTOP)))

    def asleep() -> None:
        until(lambda: not armed.exists(), f"{process} never reached {point}")
        cut()
        os.kill(pid, signal.SIGCONT)

    yield asleep


def _held_at(crashing: Crashing, name: str) -> int:
    with crashing.admin.connect() as connection:
        held = connection.execute(
            text(f"SELECT count(*) FROM {name}_service.branches WHERE state = 'prepared'")
        )
        return int(held.scalar_one())


def _asked_in_vain(crashing: Crashing, name: str) -> int:
    return (crashing.shop.data / "logs" / f"{name}.log").read_text().count("branches stay in doubt")


def _opening(body: dict[str, Any]) -> Opening:
    products = {body["items"][0]["product_id"]: 100}
    return Opening({body["user_id"]: 100}, products, {body["slot_id"]: 2})


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", PARTICIPANTS)
def test_a_partition_heals_by_itself(
    apart: tuple[Crashing, Namespaces],
    tell: Callable[[Row], None],
    name: str,
    direction: str,
    moment: str,
) -> None:
    """The customer hears a clean answer in time.

    When packets pass again the order is everywhere or nowhere.
    """
    crashing, namespaces = apart
    crashing.rest()
    body, key = crashing.given.order_body(), str(uuid4())
    crashing.client.post("/orders", json={**body, "user_id": crashing.given.user(0)["user_id"]})
    until_at_rest(crashing.admin)
    headers, asked = {"Idempotency-Key": key}, _asked_in_vain(crashing, name)
    asleep, point = MOMENTS[moment]

    with ThreadPoolExecutor(1) as pool, namespaces.mended():
        cut = functools.partial(namespaces.cut, name, direction)
        with _cut_at(crashing, cut, asleep or name, point) as on_its_way:
            answering = pool.submit(crashing.client.post, "/orders", json=body, headers=headers)
            on_its_way()
        first = answering.result()
        if point and direction != "back":
            # It goes on holding what it holds, and asks: nothing comes through to it.
            until(lambda: _asked_in_vain(crashing, name) > asked, f"{name} never asked")
            assert _held_at(crashing, name) == 1
    resolved_seconds = until_at_rest(crashing.admin, RESOLVED_SECONDS)
    last = crashing.final_answer(body, key)

    assert first.status_code == _expected(moment, direction), first.text
    assert last.status_code == 201
    assert first.status_code == 503 or last.json()["order_id"] == first.json()["order_id"]
    until_at_rest(crashing.admin)
    assert broken_public_laws(crashing.client, _opening(body)) == []
    told = int(first.status_code == httpx.codes.CREATED)
    fault = f"{moment}: order and {name} cut, {direction}"
    tell(Row(fault, 2 - told, 1, 0, 0, resolved_seconds, 0))
