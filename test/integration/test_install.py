"""`make install`, `make newman` and `make clean` on copies of the tree.

What they destroy, and what the caller's environment does.
"""

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: A folder may be called so: each of these marks means something to make, the shell, or a file of
#: settings.
ODD = "50%(done)s of 'it' cost $USER"
#: Settings of other programs, each of which once broke an installation or made an empty one.
FOREIGN = {
    "PIP_USER": "1",
    "PIP_PREFIX": "/nonexistent",
    "PIP_DRY_RUN": "1",
    "PIP_NO_BINARY": ":all:",
    "PIP_PYTHON": "/nonexistent",
    "PYTHONHOME": "/nonexistent",
    "PYTHONUSERBASE": "/nonexistent",
    "PYTHONPATH": "/nonexistent",
    "PYTHONOPTIMIZE": "2",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_ROOT": "/nonexistent",
    "PIP_CONSTRAINT": "/nonexistent",
}


def _copy(folder: Path) -> Path:
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


def _make(tree: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree of an odd name, really installed while the environment and pip's own file say a lot of other things."""
    folder = tmp_path_factory.mktemp("install")
    tree = _copy(folder / ODD)
    config = folder / "pip.conf"
    config.write_text(
        f"[global]\nfind-links = {folder / 'wheels'}\nno-index = true\n[install]\ntarget = /nonexistent\nuser = true\n"
    )
    done = _make(tree, "install", **FOREIGN, PIP_CONFIG_FILE=str(config))
    assert done.returncode == 0, done.stdout
    return tree


def test_environment_of_other_programs_changes_nothing_and_the_index_is_obeyed(
    installed: Path,
) -> None:
    """The package came from where pip's settings say, and went nowhere but into .venv."""
    assert list(installed.glob(".venv/lib/python3*/site-packages/sqlalchemy/__init__.py"))
    assert not Path("/nonexistent").exists()


def test_sound_environment_is_left_alone(installed: Path) -> None:
    """A second `make install` looks, and does nothing."""
    before = (installed / ".venv" / "installed").stat().st_mtime_ns

    assert _make(installed, "install").returncode == 0
    assert (installed / ".venv" / "installed").stat().st_mtime_ns == before


@pytest.mark.parametrize("harm", ["upgraded", "gone", "moved", "emptied", "another lock"])
def test_environment_that_is_broken_is_noticed(installed: Path, harm: str) -> None:
    """Its Python was upgraded or removed, the folder was moved, packages were lost, or other versions are pinned now."""
    with _harmed(installed, harm) as tree:
        python = tree / ".venv" / "bin" / "python"
        assert not python.exists() or _is_sound(tree) != 0
    assert _is_sound(installed) == 0


def _is_sound(tree: Path) -> int:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    command = [tree / ".venv" / "bin" / "python", "-I", "tools/install.py", "is-sound"]
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


@contextlib.contextmanager
def _harmed(tree: Path, harm: str) -> Iterator[Path]:
    """Break the tree inside the block; yields where it is meanwhile."""
    stamp, lock = tree / ".venv" / "installed", tree / "requirements-dev.lock"
    stamped, locked = stamp.read_text(), lock.read_text()
    package = next(tree.glob(".venv/lib/python3*/site-packages/sqlalchemy"))
    pairs = {
        "gone": (tree / ".venv" / "bin" / "python", tree / ".venv" / "bin" / "python.was"),
        "moved": (tree, tree.with_name("moved")),
        "emptied": (package, package.with_name("was")),
    }
    if harm == "upgraded":
        stamp.write_text(stamped.replace("Python 3.", "Python 2."))
    if harm == "another lock":
        lock.write_text(locked + "# newer\n")
    if harm in pairs:
        pairs[harm][0].rename(pairs[harm][1])
    try:
        yield pairs["moved"][1] if harm == "moved" else tree
    finally:
        if harm in pairs:
            pairs[harm][1].rename(pairs[harm][0])
        stamp.write_text(stamped)
        lock.write_text(locked)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree in which nothing is installed."""
    return _copy(tmp_path / "tree")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Return a folder of the user's own with a file in it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_text("precious")
    return folder


@pytest.mark.parametrize(
    ("link", "target"), [(".venv", "install"), ("test/node_modules", "test/node_modules/installed")]
)
def test_nothing_is_installed_over_what_a_link_leads_to(
    tree: Path, precious: Path, link: str, target: str
) -> None:
    """Venv and npm would empty the folder behind the link.

    The user hears of the link instead, and decides.
    """
    (tree / link).symlink_to(precious)

    done = _make(tree, target)

    assert done.returncode != 0
    assert f"{link} is a symbolic link to {precious}" in done.stdout
    assert (precious / "file").read_text() == "precious"


def test_clean_removes_links_and_not_what_they_lead_to(tree: Path, precious: Path) -> None:
    """Data that were put on another disk stay there.

    So does what a link inside of the data leads to.
    """
    for link in (".venv", "test/node_modules"):
        (tree / link).symlink_to(precious)
    (tree / ".data").mkdir()
    (tree / ".data" / "postgres").symlink_to(precious)

    assert _make(tree, "clean").returncode == 0

    assert (precious / "file").read_text() == "precious"
    assert not any(os.path.lexists(tree / each) for each in (".venv", "test/node_modules", ".data"))
    (tree / ".data").symlink_to(precious)
    assert _make(tree, "clean").returncode == 0
    assert (precious / "file").read_text() == "precious"
    assert not (tree / ".data").is_symlink()


def test_clean_does_not_take_the_data_of_a_shop_that_runs(tree: Path) -> None:
    """The user hears that one runs, and nothing is removed."""
    lock = tree / ".data" / "run" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = _make(tree, "clean")

    assert "a shop runs on .data" in done.stdout
    assert lock.exists()


@pytest.mark.parametrize("target", ["install", "clean"])
def test_folder_that_is_no_virtual_environment_is_not_removed(tree: Path, target: str) -> None:
    """Somebody keeps something of their own there."""
    (tree / ".venv").mkdir()
    (tree / ".venv" / "file").write_text("precious")

    done = _make(tree, target)

    assert done.returncode != 0
    assert ".venv is not a virtual environment" in done.stdout
    assert (tree / ".venv" / "file").exists()


def test_reason_of_a_failed_venv_is_shown(tmp_path: Path) -> None:
    """Not every failure is a missing package of Debian's: a colon in the path is none."""
    done = _make(_copy(tmp_path / "a:b"), "install")

    assert "PATH separator" in done.stdout
    assert "python3-venv" not in done.stdout


def test_missing_ensurepip_is_told_as_what_it_is(tree: Path) -> None:
    """A Debian without python3-venv has a Python without ensurepip.

    The sentence names the package.
    """
    stub = tree / "python"
    hide = (
        "import runpy, sys; sys.modules['ensurepip'] = None; sys.argv[1:] = ['packages'];"
        "runpy.run_path('tools/install.py', {}, '__main__')"
    )
    stub.write_text(
        f'#!/bin/sh\nif [ "$2" = tools/install.py ]; then exec {sys.executable} -I -c "{hide}"; fi\nexec {sys.executable} "$@"\n'
    )
    stub.chmod(0o755)

    done = _make(tree, "install", PYTHON=str(stub))

    assert done.returncode != 0
    assert "python3-venv is needed: apt-get install python3-venv" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false"])
def test_python_that_is_none_is_refused(tree: Path, python: str) -> None:
    """The user hears which variable names another one."""
    done = _make(tree, "install", PYTHON=python)

    assert done.returncode != 0
    assert "Python 3.11 or newer is needed (PYTHON=... names one)" in done.stdout


def test_newman_is_installed_whatever_the_environment_leaves_out(tree: Path) -> None:
    """NODE_ENV=production would install nothing; CDPATH would lead somewhere else.

    The registry that is set is obeyed.
    """
    npm = tree / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        '#!/bin/sh\n{ pwd; echo "$@"; env; } > seen\nmkdir -p node_modules/.bin; touch node_modules/.bin/newman\n'
    )
    npm.chmod(0o755)
    (tree / "bin" / "node").symlink_to("/bin/true")
    (tree / "elsewhere" / "test").mkdir(parents=True)
    settings = {
        "NODE_ENV": "production",
        "CDPATH": str(tree / "elsewhere"),
        "npm_config_omit": "dev",
        "NODE_OPTIONS": "--nothing",
    }

    done = _make(
        tree,
        "test/node_modules/installed",
        **settings,
        PATH=f"{tree / 'bin'}:{os.environ['PATH']}",
        npm_config_registry="https://registry.invalid",
        https_proxy="http://127.0.0.1:9",
    )

    assert done.returncode == 0, done.stdout
    seen = (tree / "test" / "seen").read_text().splitlines()
    assert seen[0] == str(tree / "test")
    assert "--include=dev" in seen[1]
    assert not {f"{name}={value}" for name, value in settings.items()} & set(seen)
    assert {
        "npm_config_registry=https://registry.invalid",
        "https_proxy=http://127.0.0.1:9",
    } <= set(seen)


def test_reason_why_npm_fails_is_shown(tree: Path) -> None:
    """Not only that it has failed."""
    npm = tree / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho the disk is full >&2; exit 1\n")
    npm.chmod(0o755)
    (tree / "bin" / "node").symlink_to("/bin/true")

    done = _make(tree, "test/node_modules/installed", PATH=f"{tree / 'bin'}:{os.environ['PATH']}")

    assert "the disk is full" in done.stdout
