"""What some faults need of the machine. Without it a test is skipped and says why.

In CI it fails, because nobody reads skips there.
"""

import os
import subprocess
from collections.abc import Sequence
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """End the test: it cannot be done here, for this reason."""
    if os.environ.get("CI"):
        pytest.fail(f"CI lacks what this test needs: {reason}")
    pytest.skip(reason)


def needed(command: Sequence[str], why: str) -> None:
    """Run a command that prepares the machine; if it cannot be run here, the test cannot either."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        lacking(f"{why}: {command[0]} is not installed")
    if done.returncode:
        lacking(f"{why}: {' '.join(command)}: {done.stderr.strip()}")
