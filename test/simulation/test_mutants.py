"""The laws of the simulation can fail: each of these bugs, made by hand, is found."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from simulation import mutants

QUICK = sorted(name for name, mutant in mutants.MUTANTS.items() if mutant.quick)
#: More than twice as many as the slowest of the quick ones needs.
QUICK_SEEDS_MAX = 500

Hunts = dict[str, Future[tuple[int, str]]]


@pytest.fixture(scope="module")
def hunts() -> Iterator[Hunts]:
    """Hunt for all quick mutants, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(mutants.found, name, QUICK_SEEDS_MAX, mutants.MUTANTS[name].seed)
            for name in QUICK
        }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", QUICK)
def test_mutant_is_found_within_few_seeds(hunts: Hunts, name: str) -> None:
    """A bug in the protocol, the engine, the participant or the log breaks a law (``make simulate MUTANTS=1`` hunts all)."""
    seeds, law = hunts[name].result()

    assert 0 < seeds <= QUICK_SEEDS_MAX
    assert law


@pytest.mark.parametrize("name", sorted(mutants.MUTANTS))
def test_words_of_a_mutant_are_in_the_source(name: str) -> None:
    """A mutant whose words are gone would be the program itself, and its hunt would prove nothing."""
    mutant = mutants.MUTANTS[name]

    assert len(mutants.matches(mutant, mutants.source_of(mutant))) == 1
    assert mutant.before != mutant.after
