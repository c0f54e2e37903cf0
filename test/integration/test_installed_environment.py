"""`make install` under hostile settings: what it installs, leaves alone, and finds broken."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.makefile_tree import copy_tree, make

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree of an odd name, really installed while the environment and pip's own file say a lot of other things."""
    folder = tmp_path_factory.mktemp("install")
    tree = copy_tree(folder / ODD)
    config = folder / "pip.conf"
    config.write_text(
        f"[global]\nfind-links = {folder / 'wheels'}\nno-index = true\n[install]\ntarget = /nonexistent\nuser = true\n"
    )
    done = make(tree, "install", **FOREIGN, PIP_CONFIG_FILE=str(config))
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

    assert make(installed, "install").returncode == 0
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
