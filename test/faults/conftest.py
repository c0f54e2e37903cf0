"""Tells at the end what each fault did: orders offered, confirmed, refused and unknown, seconds to resolve, violations."""

from collections.abc import Callable

import pytest

from faults.report import COLUMNS, Row

_ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Return a function that adds a line to the table."""
    return request.config.stash.setdefault(_ROWS, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("faults")
        widths = [
            max(len(str(cell)) for cell in column) for column in zip(COLUMNS, *(row.cells() for row in rows), strict=True)
        ]
        for cells in (COLUMNS, *(row.cells() for row in rows)):
            terminalreporter.line("  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)))
