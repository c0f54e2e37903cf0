"""The real code in the simulated world.

No seed and no single fault breaks a law, and the faults do strike.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from simulation import pairs, runs
from simulation.fate import FAULTS
from simulation.plan import plan_of
from simulation.runs import Outcome
from two_phase import crash_points

SEEDS = 2000
CHUNK = 50
TRANSITIONS = (
    "branch: None -> prepared",
    "branch: None -> aborted",
    "branch: prepared -> committed",
    "branch: prepared -> aborted",
    "order: none -> confirmed",
    "order: none -> cancelled",
    "log: restored",
    "participant: restored",
    "reconcile: confirmed again",
    "reconcile: cancelled again",
    "reconcile: replayed",
)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Return two processes; each world needs only one."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as made:
        yield made


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what several processes have counted."""
    total = Outcome()
    for outcome in outcomes:
        total.merge(outcome)
    return total


@pytest.fixture(scope="module")
def outcome(pool: ProcessPoolExecutor) -> Outcome:
    """Return what became of the first seeds."""
    chunks = [range(start, start + CHUNK) for start in range(0, SEEDS, CHUNK)]
    return merged(list(pool.map(runs.run_seeds, chunks)))


@pytest.mark.timeout(600)
def test_no_seed_breaks_a_law(outcome: Outcome) -> None:
    """All laws of the protocol hold in every run.

    ``python -m simulation --seed K`` tells the story of one that does not.
    """
    assert outcome.broken == []
    assert outcome.runs == SEEDS


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "place",
    [
        *(f"coordinator: {point}" for point in crash_points.COORDINATOR_POINTS),
        *(f"participant: {point}" for point in crash_points.PARTICIPANT_POINTS),
        *TRANSITIONS,
        *(f"{kind}: {fault}" for kind, each in FAULTS.items() for fault in each),
    ],
)
def test_sometimes_each_place_is_reached(outcome: Outcome, place: str) -> None:
    """Laws that hold because nothing happens prove nothing.

    Every crash point, transition and fault occurs.
    """
    assert outcome.seen[place] > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("status", [201, 202, 409, 503])
def test_sometimes_a_customer_is_told_each_answer(outcome: Outcome, status: int) -> None:
    """Every answer that the contract knows occurs."""
    assert outcome.told[status] > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", sorted(pairs.PATHS))
def test_no_single_fault_of_an_order_breaks_a_law(pool: ProcessPoolExecutor, path: str) -> None:
    """Every fault at every place of one order, committed and aborted.

    ``make simulate PAIRS=1`` adds every second fault.
    """
    chosen = pairs.singles(path)

    outcome = merged(
        list(pool.map(partial(pairs.run_with, path, pairs=False), chosen, chunksize=20))
    )

    assert outcome.broken == []
    assert outcome.runs == len(chosen)


def test_a_seed_decides_everything() -> None:
    """The same seed tells the same story, in another process with other hashes too."""
    seed = 16
    assert plan_of(seed).troubles
    command = [sys.executable, "-m", "simulation", "--seed", str(seed)]
    path = os.pathsep.join(path for path in sys.path if path)

    told = [
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": hashes, "PYTHONPATH": path},
            capture_output=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    ]

    assert told[0] == told[1]
    assert told[0].count(b"\n") > 100
