"""A copy of the tree with what the Makefile's installing targets read."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_tree(folder: Path) -> Path:
    """Return a tree with what the Makefile's installing targets read.

    The lock names one package that this machine has made.
    """
    for name in (
        "Makefile",
        "pyproject.toml",
        "tools/install.py",
        "test/package.json",
        "test/package-lock.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    digest = hashlib.sha256(_wheel(folder.with_name("wheels")).read_bytes()).hexdigest()
    (folder / "requirements-dev.lock").write_text(f"sqlalchemy==0.0.1 --hash=sha256:{digest}\n")
    return folder


def _wheel(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    wheel = folder / "sqlalchemy-0.0.1-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: sqlalchemy\nVersion: 0.0.1\n"
    files = {
        "sqlalchemy/__init__.py": "",
        "sqlalchemy-0.0.1.dist-info/METADATA": metadata,
        "sqlalchemy-0.0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def digest(content: str) -> str:
        return (
            base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest())
            .rstrip(b"=")
            .decode()
        )

    lines = [f"{name},sha256={digest(content)},{len(content)}" for name, content in files.items()]
    files["sqlalchemy-0.0.1.dist-info/RECORD"] = "\n".join(
        [*lines, "sqlalchemy-0.0.1.dist-info/RECORD,,", ""]
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def make(tree: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a target of the Makefile in ``tree``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        ["make", *arguments],
        cwd=tree,
        env={**inherited, "PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
