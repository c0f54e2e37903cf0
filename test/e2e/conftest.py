"""The shop that the tests of this folder share, reached through its gateway alone."""

from collections.abc import Callable, Iterator

import httpx
import pytest

import documented
from given import Given
from running_shop import Shop


@pytest.fixture(scope="session")
def shop(start_shop: Callable[..., Shop]) -> Shop:
    """Return the shop that all tests share."""
    return start_shop()


@pytest.fixture(scope="session")
def client(shop: Shop) -> Iterator[httpx.Client]:
    """Return a client of the shared shop's gateway, whose every answer is held against the documents."""
    hooks = {"response": [documented.check]}
    with httpx.Client(base_url=f"http://{shop.address}", timeout=10, event_hooks=hooks) as made:
        yield made


@pytest.fixture(scope="session")
def given(client: httpx.Client) -> Given:
    """Return the maker of users, products and slots in the shared shop."""
    return Given(client)
