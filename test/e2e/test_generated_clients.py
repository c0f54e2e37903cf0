"""Clients that two well-kept generators make of the documents.

Type-checked strictly, and each buys a lamp.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documents import SERVICES, documents
from running_shop import ROOT, Shop

#: All documents in one process: to start the generator takes longer than to generate.
GENERATE = """
import sys
from openapi_python_client.cli import app
for name in sys.argv[1:]:
    words = ["--path", f"{name}.json", "--output-path", f"shop_{name.replace('-', '_')}"]
    words += ["--meta", "none", "--fail-on-warning"]
    assert not app(["generate", *words], standalone_mode=False)
"""
#: Generators and compilers compute for half a minute, and on a busy machine for two.
pytestmark = pytest.mark.timeout(300)
CLIENTS, MODULES = ROOT / "test" / "clients", ROOT / "test" / "node_modules"
NAMES = sorted(documents())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all documents."""
    made = tmp_path_factory.mktemp("clients")
    for name, document in documents().items():
        (made / f"{name}.json").write_text(json.dumps(document))
    return made


def run(folder: Path, *command: str | Path) -> str:
    """Run a command to its end and return what it has said, on both channels."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={"PATH": path, "PYTHONPATH": str(folder), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_python_client_is_generated_in_full_and_buys_a_lamp(folder: Path, shop: Shop) -> None:
    """Nothing is left out, mypy finds nothing, and problems are a handful of classes."""
    run(folder, sys.executable, "-c", GENERATE, *NAMES)
    for file in ("buy_lamp.py", "mypy.ini"):
        shutil.copy(CLIENTS / file, folder)

    checked = run(
        folder, sys.executable, "-m", "mypy", "buy_lamp.py", *(f"shop_{each}" for each in SERVICES)
    )

    assert checked.startswith("Success: no issues found")
    for service in SERVICES:
        models = sorted(path.stem for path in (folder / f"shop_{service}" / "models").glob("*.py"))
        assert not [name for name in models if "response" in name]
        assert len(models) < 30
    assert (
        run(folder, sys.executable, "buy_lamp.py", f"http://{shop.address}")
        == "a lamp was bought\n"
    )


def test_a_typescript_client_is_generated_and_buys_a_lamp(folder: Path, shop: Shop) -> None:
    """All eight compile under `tsc --strict`."""
    for file in ("buy_lamp.ts", "tsconfig.json"):
        shutil.copy(CLIENTS / file, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").symlink_to(MODULES)
    apis = {
        name: {"root": f"{name}.json", "x-openapi-ts": {"output": f"{name}.ts"}} for name in NAMES
    }
    (folder / "redocly.yaml").write_text(json.dumps({"apis": apis}))
    run(folder, MODULES / ".bin" / "openapi-typescript")

    run(folder, MODULES / ".bin" / "tsc", "--project", ".")

    assert (
        run(folder, "node", "built/buy_lamp.js", f"http://{shop.address}") == "a lamp was bought\n"
    )
