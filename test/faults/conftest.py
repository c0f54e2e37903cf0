"""The shops that share these tests (processes that die on demand, two replicas of everything, a proxy in between), and the table.

It tells at the end what each fault did: orders offered, confirmed, refused and unknown, seconds to
resolve, violations.
"""

from collections.abc import Callable, Iterator

import pytest

from faults.crashing import Crashing, crashing_shop, pid_of
from faults.proxied import Proxied, proxied_shop
from faults.report import COLUMNS, Row
from running_shop import Shop

_ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Return a function that adds a line to the table."""
    return request.config.stash.setdefault(_ROWS, []).append


@pytest.fixture(scope="session")
def crashing(
    start_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crashing]:
    """Return a shop whose processes die where a test wants it.

    Asked to stop, they go on for a second.
    """
    points = tmp_path_factory.mktemp("points")
    shop = start_shop(CRASH_POINTS_DIR=str(points), DRAIN_WAIT_SECONDS="1")
    with crashing_shop(shop, points) as crashing:
        yield crashing


@pytest.fixture(scope="session")
def doubled(
    start_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crashing]:
    """Return a shop with two replicas of every service."""
    points = tmp_path_factory.mktemp("points")
    with crashing_shop(
        start_shop(CRASH_POINTS_DIR=str(points), SHOP_REPLICAS="2"), points
    ) as doubled:
        yield doubled


@pytest.fixture(scope="session")
def shared_proxied(start_shop: Callable[..., Shop]) -> Iterator[Proxied]:
    """Return the shop behind the proxy that all tests share."""
    with proxied_shop(start_shop) as proxied:
        yield proxied


@pytest.fixture
def proxied(shared_proxied: Proxied) -> Iterator[Proxied]:
    """Return the shop behind the proxy, with every link healed before and after.

    No process may die of what it is told.
    """
    shared_proxied.heal()
    before = _pids(shared_proxied.shop)
    yield shared_proxied
    shared_proxied.heal()
    assert _pids(shared_proxied.shop) == before


def _pids(shop: Shop) -> dict[str, int | None]:
    return {process: pid_of(shop, process) for process in shop.services()}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("faults")
        widths = [
            max(len(str(cell)) for cell in column)
            for column in zip(COLUMNS, *(row.cells() for row in rows), strict=True)
        ]
        for cells in (COLUMNS, *(row.cells() for row in rows)):
            terminalreporter.line(
                "  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True))
            )
