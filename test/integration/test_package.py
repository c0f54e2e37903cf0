"""`pip install .`: a wheel, and a wheel from the source distribution, work in an environment outside of the clone."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES = sorted(path.name for path in ROOT.glob("*_service"))
TREES = sorted(("two_phase", "service_chassis", "shop", *SERVICES))
BUILD = "import setuptools.build_meta as backend, sys; print(getattr(backend, 'build_' + sys.argv[1])(sys.argv[2]))"


def _named(*extras: str) -> set[str]:
    extra_lists = PROJECT["project"]["optional-dependencies"]
    listed = [each for extra in extras for each in extra_lists[extra]]
    return {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in listed}


def _imported(folder: Path) -> set[str]:
    """Return the packages of others that modules in ``folder`` import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            found |= {name.split(".")[0] for name in names}
    # What pydantic and FastAPI bring with them is theirs to name.
    return found - sys.stdlib_module_names - {*TREES, "pydantic_core", "starlette"}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("two_phase", ("two-phase",)),
        *((folder, ("two-phase", "chassis")) for folder in ("service_chassis", *SERVICES)),
        ("shop", ("two-phase", "chassis", "shop")),
    ],
)
def test_what_is_imported_is_named(folder: str, extras: tuple[str, ...]) -> None:
    """A participant of one's own needs what two_phase needs, a service the chassis too, and the command the shop."""
    provided = importlib.metadata.packages_distributions()
    imported = _imported(ROOT / folder)

    assert imported
    unnamed = {
        name
        for name in imported
        if not _named(*extras) & {each.lower().replace("_", "-") for each in provided.get(name, [])}
    }
    assert not unnamed


def _built(kind: str, source: Path, folder: Path) -> Path:
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", BUILD, kind, str(folder)]
    built = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / built.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that is built from the source distribution of a checkout.

    Building leaves traces, so not of this one.
    """
    folder = tmp_path_factory.mktemp("package")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in (*TREES, "config", "k8s", "helm", "test/unit"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout / name)
    sdist = _built("sdist", checkout, folder / "sdist")
    direct = _built("wheel", checkout, folder / "direct")
    shutil.unpack_archive(sdist, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheel = _built("wheel", unpacked, folder / "wheel")
    assert _names(wheel) == _names(direct)
    return wheel


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_the_code_and_what_it_reads_and_nothing_else(wheel: Path) -> None:
    """Migrations and the gateway's routes are inside.

    The chart, the tests and other manifests are not.
    """
    names = _names(wheel)
    code = {str(path.relative_to(ROOT)) for tree in TREES for path in (ROOT / tree).rglob("*.py")}

    assert {name for name in names if name.endswith(".py")} == code
    assert {"shop/config/alembic.ini", "shop/k8s/60-ingress.yaml"} <= names
    assert [name for name in names if name.startswith("order_service/migrations/versions/")]
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(TREES)
    assert not [
        name for name in names if name.endswith(".yaml") and name != "shop/k8s/60-ingress.yaml"
    ]


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment in which the wheel is installed, beside the packages that this one has."""
    environment = tmp_path_factory.mktemp("elsewhere") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    ours = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (packages / "theirs.pth").write_text(f"{ours}\n")
    pip = (sys.executable, "-I", "-m", "pip", "--python", str(environment / "bin" / "python"))
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    return environment / "bin"


def _run(programs: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        [programs / command[0], *command[1:]],
        cwd=programs.parent,
        env={**environment, "PATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_shop_that_is_installed_elsewhere_plays_the_demo(elsewhere: Path) -> None:
    """The command, the services, the migrations and the gateway run from the wheel alone."""
    assert "demo" in _run(elsewhere, "shop", "--help").stdout
    found = _run(
        elsewhere,
        "python",
        "-c",
        "import shop, two_phase, order_service; print(shop.__file__, two_phase.__file__)",
    )
    assert found.stdout.count("elsewhere") == 2, found.stderr

    demo = _run(elsewhere, "shop", "demo")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "all seven steps held" in demo.stdout


def test_plain_installation_asks_for_all_that_the_command_needs(wheel: Path) -> None:
    """`pip install .` without an extra gives a shop that runs."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    required = [
        line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")
    ]

    assert [each for each in required if "extra ==" not in each] == [
        "two-phase-commit-shop[chassis,shop,two-phase]"
    ]
    assert not [
        each for each in required if each.startswith("two-phase-commit-shop") and "extra" in each
    ]
