"""The shop that the tests of this folder share, reached through its gateway alone.

``start_shop`` starts further ones for tests that need a shop of their own. Whatever was started is stopped by SIGTERM in the
end. When a test fails, the ends of the logs are shown with it.
"""

from collections.abc import Callable, Generator, Iterator

import httpx
import pytest

from e2e.given import Given
from e2e.running_shop import Shop, launch

_STARTED = pytest.StashKey[list[Shop]]()


@pytest.fixture(scope="session")
def start_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Shop]]:
    """Return a function that starts a shop with the given settings and waits until it is ready."""
    started = request.config.stash.setdefault(_STARTED, [])

    def start(**settings: str) -> Shop:
        shop = launch(tmp_path_factory.mktemp("shop"), **settings)
        started.append(shop)
        shop.wait_until_ready()
        return shop

    yield start
    for shop in started:
        shop.stop()


@pytest.fixture(scope="session")
def shop(start_shop: Callable[..., Shop]) -> Shop:
    """Return the shop that all tests share."""
    return start_shop()


@pytest.fixture(scope="session")
def client(shop: Shop) -> Iterator[httpx.Client]:
    """Return a client of the shared shop's gateway."""
    with httpx.Client(base_url=f"http://{shop.address}", timeout=10) as made:
        yield made


@pytest.fixture(scope="session")
def given(client: httpx.Client) -> Given:
    """Return the maker of users, products and slots in the shared shop."""
    return Given(client)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs with every failure."""
    report = yield
    if report.failed:
        for shop in item.config.stash.get(_STARTED, []):
            report.sections.append((f"the shop on port {shop.port}", shop.logs()))
    return report
