"""`make install`, `make newman` and `make clean` on copies of the tree.

What they destroy, and what the caller's environment does.
"""

import fcntl
import os
import sys
from pathlib import Path

import pytest

from integration.makefile_tree import copy_tree, make


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree in which nothing is installed."""
    return copy_tree(tmp_path / "tree")


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

    done = make(tree, target)

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

    assert make(tree, "clean").returncode == 0

    assert (precious / "file").read_text() == "precious"
    assert not any(os.path.lexists(tree / each) for each in (".venv", "test/node_modules", ".data"))
    (tree / ".data").symlink_to(precious)
    assert make(tree, "clean").returncode == 0
    assert (precious / "file").read_text() == "precious"
    assert not (tree / ".data").is_symlink()


def test_clean_does_not_take_the_data_of_a_shop_that_runs(tree: Path) -> None:
    """The user hears that one runs, and nothing is removed."""
    lock = tree / ".data" / "run" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = make(tree, "clean")

    assert "a shop runs on .data" in done.stdout
    assert lock.exists()


@pytest.mark.parametrize("target", ["install", "clean"])
def test_folder_that_is_no_virtual_environment_is_not_removed(tree: Path, target: str) -> None:
    """Somebody keeps something of their own there."""
    (tree / ".venv").mkdir()
    (tree / ".venv" / "file").write_text("precious")

    done = make(tree, target)

    assert done.returncode != 0
    assert ".venv is not a virtual environment" in done.stdout
    assert (tree / ".venv" / "file").exists()


def test_reason_of_a_failed_venv_is_shown(tmp_path: Path) -> None:
    """Not every failure is a missing package of Debian's: a colon in the path is none."""
    done = make(copy_tree(tmp_path / "a:b"), "install")

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

    done = make(tree, "install", PYTHON=str(stub))

    assert done.returncode != 0
    assert "python3-venv is needed: apt-get install python3-venv" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false"])
def test_python_that_is_none_is_refused(tree: Path, python: str) -> None:
    """The user hears which variable names another one."""
    done = make(tree, "install", PYTHON=python)

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

    done = make(
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

    done = make(tree, "test/node_modules/installed", PATH=f"{tree / 'bin'}:{os.environ['PATH']}")

    assert "the disk is full" in done.stdout
