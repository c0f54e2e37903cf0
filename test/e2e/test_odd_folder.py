"""A checkout in a folder with a name in which every mark means something to a shell, a file of settings, or a template."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from running_shop import ROOT


def test_shop_runs_in_a_folder_of_any_name(tmp_path: Path) -> None:
    """Migrations, services and gateway find their files, and the demo holds.

    Data are kept in such a folder as well.
    """
    tree = tmp_path / "50%(done)s of 'it' 100%shop {x} $HOME #1"
    tree.mkdir()
    for package in (
        "two_phase",
        "service_chassis",
        "order_service",
        "payment_service",
        "stock_service",
        "delivery_service",
        "shop",
        "config",
        "k8s",
    ):
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tree / "temporary").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    demo = subprocess.run(
        [sys.executable, "-m", "shop", "demo"],
        cwd=tree,
        env={**environment, "TMPDIR": str(tree / "temporary"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert str(tree / "temporary") in demo.stdout
    assert "all seven steps held" in demo.stdout
