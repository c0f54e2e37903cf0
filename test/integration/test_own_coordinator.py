"""The coordinator that two_phase/README.md shows: that of examples/trip, which runs and survives."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

import trip
from shop.local.ports import Ports
from shop.local.postgres import Postgres
from two_phase.crash_points import COORDINATOR_POINTS
from two_phase.http.paths import OUTCOMES_PATH
from two_phase.messages import new_transaction_id

pytestmark = pytest.mark.timeout(300)
TRIES_MAX = 4
#: The last points are reached soon after the answer.
SOON_SECONDS = 3


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where crash points are armed."""
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def trips(postgres: Postgres, points: Path) -> Iterator[trip.Trips]:
    """Return a running trip."""
    with Ports() as ports, trip.running(postgres, ports, points) as running:
        yield running


def test_a_trip_is_all_three_or_nothing(trips: trip.Trips) -> None:
    """L6: a full plane leaves bed and car where they are, and the same key gets the same answer."""
    before, keys = trips.left(), [str(uuid4()) for _ in range(2)]

    booked = [trips.book(keys[0], seats=2) for _ in range(2)]
    refused = [trips.book(keys[1], seats=3, number="KL1") for _ in range(2)]

    assert [each.status_code for each in (*booked, *refused)] == [201, 201, 409, 409]
    assert booked[0].json() == booked[1].json()
    assert refused[0].json() == refused[1].json()
    assert refused[0].json()["refusals"] == {"flight": "the plane is full"}
    seats, beds, cars = before
    assert trips.left() == (seats - 2, beds - 2, cars - 1)


@pytest.mark.parametrize("point", [each for each in COORDINATOR_POINTS if each[:3] != "out"])
def test_the_coordinator_survives_its_death(trips: trip.Trips, points: Path, point: str) -> None:
    """L4, L6: killed at any point, it books the trip once, and nothing stays in doubt."""
    seats, beds, cars = trips.left()
    armed = points / f"{point}.{trips.pid('coordinator')}"
    armed.touch()

    booked = _booked_until_gone(trips, armed)
    trips.until(lambda: not armed.exists(), f"{point} was never reached")

    assert {each.status_code for each in booked} == {httpx.codes.CREATED}
    count = len(booked)
    assert trips.left() == (seats - count, beds - count, cars - count)


def _booked_until_gone(trips: trip.Trips, armed: Path) -> list[httpx.Response]:
    """Book trips until the coordinator has died where it should, a few at the most.

    A decision that is written slowly is learnt by asking again, which goes past the point.
    """
    booked: list[httpx.Response] = []
    while armed.exists() and len(booked) < TRIES_MAX:
        booked.append(trips.book(str(uuid4())))
        deadline = time.monotonic() + SOON_SECONDS
        while armed.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    return booked


def test_a_question_is_answered_alike_after_a_death(trips: trip.Trips, points: Path) -> None:
    """R2: what was written before the answer left is the answer of the process that comes after."""
    trips.book(str(uuid4()))
    armed = points / f"outcomes_durable.{trips.pid('coordinator')}"
    armed.touch()
    unknown = new_transaction_id()

    trips.until(lambda: trips.cancelled(OUTCOMES_PATH, unknown), "the question is not answered")

    assert not armed.exists()
