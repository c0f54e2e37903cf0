"""What the Dockerfile copies is let through by .dockerignore, and is all that a service needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shop.topology import PACKAGES

ROOT = Path(__file__).parents[2]


def context(folder: Path) -> None:
    """Make the build context: what .dockerignore, which ignores all, lets through by name."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    patterns = [line[1:] for line in lines if line.startswith("!")]
    for name in (str(path.relative_to(ROOT)) for each in patterns for path in ROOT.glob(each)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)


def copied(service: str) -> list[str]:
    """Return what the first stage copies into the shop's folder."""
    first = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1].partition("WORKDIR /shop\n")[2]
    return [
        line.split()[1].replace("${SERVICE}", service)
        for line in first.splitlines()
        if line.startswith("COPY ")
    ]


@pytest.mark.parametrize("service", PACKAGES)
def test_image_has_all_that_its_service_and_its_migration_import(
    service: str, tmp_path: Path
) -> None:
    """Import the service from a folder that holds what its image holds, and nothing else of ours."""
    sent, shop = tmp_path / "context", tmp_path / "shop"
    context(sent)
    assert (sent / "requirements.lock").is_file()
    for name in copied(service):
        source, target = sent / name, shop / name
        assert source.exists(), f"{name} is kept from the build by .dockerignore"
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    script = (
        f"import {service}.main\n"
        "from alembic.config import Config\n"
        "from alembic.script import ScriptDirectory\n"
        f"config = Config('config/alembic.ini', ini_section='{service}')\n"
        "assert ScriptDirectory.from_config(config).get_heads()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=shop,
        env={"PATH": os.defpath, "PYTHONPATH": str(shop), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
