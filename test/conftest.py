"""Starts whole shops for the tests that need one.

Whatever was started is stopped by SIGTERM in the end. When a test fails, the ends of the logs are
shown with it.
"""

import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

import ready_data
from running_shop import Shop, launch

# The machine's proxies, and what libpq would read, are not meant for what tests start on the
# loopback.
for _name in [
    name
    for name in os.environ
    if re.fullmatch(r"PG[A-Z]+|.*_proxy", name) or name.endswith("_PROXY")
]:
    del os.environ[_name]

_STARTED = pytest.StashKey[list[Shop]]()


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder of a shop that is migrated and was never used, to be copied."""
    folder = tmp_path_factory.mktemp("ready") / "data"
    ready_data.make(folder)
    return folder


@pytest.fixture(scope="session")
def start_shop(
    request: pytest.FixtureRequest, ready: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Shop]]:
    """Return a function that starts a shop with the given settings and waits until it is ready."""
    started = request.config.stash.setdefault(_STARTED, [])

    def start(**settings: str) -> Shop:
        folder = tmp_path_factory.mktemp("shop")
        # A shop on another server has nothing of its own but secrets.
        if "DATABASE_URL" not in settings:
            ready_data.copy(ready, folder / "data")
        shop = launch(folder, **settings)
        started.append(shop)
        shop.wait_until_ready()
        return shop

    yield start
    for shop in started:
        shop.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs with every failure."""
    report = yield
    if report.failed:
        for shop in item.config.stash.get(_STARTED, []):
            report.sections.append((f"the shop on port {shop.port}", shop.logs()))
    return report
