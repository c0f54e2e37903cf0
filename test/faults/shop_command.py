"""`shop` as an operator runs it."""

import os
import subprocess
import sys
from pathlib import Path

from running_shop import ROOT


def run_shop(data: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `shop` as an operator does, whose DATABASE_URL says nothing."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SHOP_", "DATABASE_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "shop", *words],
        cwd=ROOT,
        env={**environment, "SHOP_DATA": str(data)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output_of(data: Path, *words: str) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = run_shop(data, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout
