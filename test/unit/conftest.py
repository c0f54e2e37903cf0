"""Figures that tests measure, printed at the end of a run whether they pass or fail."""

from collections.abc import Callable

import pytest

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that has a line printed at the end of the run."""
    return request.config.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for line in sorted(terminalreporter.config.stash.get(_FIGURES, [])):
        terminalreporter.write_line(line)
