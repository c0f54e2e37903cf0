"""The installed `shop` command: says what is missing where only two_phase was asked for."""

import sys


def main() -> None:
    """Run the command; ends with a sentence if its packages were not installed."""
    try:
        from shop.__main__ import app
    except ModuleNotFoundError as missing:
        sys.exit(
            f"the shop needs {missing.name}, which is not installed: pip install 'two-phase-commit-shop[shop]'"
        )
    app()
