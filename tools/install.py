"""Installs what the Makefile's targets need, and removes it.

Asks for nothing but the standard library.

python tools/install.py packages the pinned packages into .venv, which is made anew unless it is
sound python tools/install.py is-sound exits 0 if .venv is what `packages` would make; PYTHON names
the Python that it must have python tools/install.py tools FILE more pinned packages into .venv
python tools/install.py newman newman into test/node_modules python tools/install.py clean remove
all of it, and the data of local runs

Of the caller's settings of pip and npm those that say where packages come from are obeyed, and
those that say where they go or which are left out are not. Nothing is ever removed through a
symbolic link.
"""

import ast
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).absolute().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
LOCK = ROOT / "requirements-dev.lock"
NODE_MODULES = ROOT / "test" / "node_modules"
DATA = ROOT / ".data"
#: A virtual environment that was cut off while it was made has no more than these.
_BEGUN = {"bin", "include", "lib", "lib64", "pyvenv.cfg"}
_PIP_KEEPS = {
    *(
        "index-url",
        "extra-index-url",
        "no-index",
        "find-links",
        "trusted-host",
        "cert",
        "client-cert",
        "proxy",
    ),
    *(
        "timeout",
        "default-timeout",
        "retries",
        "cache-dir",
        "no-cache-dir",
        "keyring-provider",
        "use-feature",
    ),
    *("use-deprecated", "no-input"),
}
_NPM_OPTIONS = (
    *("--include=dev", "--no-global", "--no-dry-run", "--package-lock", "--bin-links"),
    *("--loglevel=error", "--no-fund", "--no-audit"),
)


class CannotInstall(Exception):
    """What was asked for cannot be done; the message tells a person why."""


def main(arguments: Sequence[str]) -> int:
    """Do what was asked for and return the exit code."""
    wish, files = arguments[0], [Path(each) for each in arguments[1:]]
    try:
        if wish == "is-sound":
            return 0 if _is_sound() else 1
        {
            "packages": _packages,
            "newman": _newman,
            "clean": _clean,
            "tools": lambda: _pip_install(*files),
        }[wish]()
    except (CannotInstall, OSError) as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


def _packages() -> None:
    if VENV.is_symlink():
        raise CannotInstall(
            f".venv is a symbolic link to {VENV.readlink()}, and nothing is replaced through a link: remove the link"
        )
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise CannotInstall(
            f"python3-venv is needed: apt-get install python3-venv (or python{version}-venv)"
        )
    _remove_environment()
    try:
        _run([sys.executable, "-I", "-m", "venv", str(VENV)], _clean_environment())
    except CannotInstall:
        _remove_environment()
        raise
    print("installing the pinned packages into .venv", flush=True)
    _pip_install(LOCK)
    _run([str(PYTHON), "-I", "-m", "pip", "check"], _pip_environment())
    version = _run([str(PYTHON), "-I", "-c", _VERSION], _clean_environment()).strip()
    STAMP.write_text(_stamp(version))


_VERSION = "import sys; print(*sys.version_info[:2], sep='.')"


def _is_sound() -> bool:
    """Return whether the environment of this Python is the one that `packages` has made here, for the lock of today."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    named = os.environ.get("PYTHON")
    return (
        Path(sys.prefix) == VENV
        and STAMP.is_file()
        and STAMP.read_text() == _stamp(version)
        and importlib.util.find_spec("sqlalchemy") is not None
        and (
            not named
            or _run([named, "-I", "-c", _VERSION], _clean_environment()).strip() == version
        )
    )


def _stamp(version: str) -> str:
    return f"{VENV}\nPython {version}\n{hashlib.sha256(LOCK.read_bytes()).hexdigest()}\n"


def _remove_environment() -> None:
    """Remove .venv if it is a virtual environment, or the beginning of one.

    Nothing else was made by us.
    """
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        inside = {each.name for each in VENV.iterdir()} if VENV.is_dir() else {VENV.name}
        if "pyvenv.cfg" not in inside and not inside <= _BEGUN:
            raise CannotInstall(".venv is not a virtual environment: move away what it has")
        shutil.rmtree(VENV)


def _pip_install(lock: Path) -> None:
    options = (
        "--quiet",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-deps",
        "-r",
        str(lock),
    )
    _run([str(PYTHON), "-I", "-m", "pip", "install", *options], _pip_environment())


def _pip_environment() -> dict[str, str]:
    """Return the environment for pip.

    Of all its settings, from wherever, those alone that say where packages come from.
    """
    cleaned = _clean_environment()
    obeyed = {"PIP_CONFIG_FILE", *(_variable(name) for name in _PIP_KEEPS)}
    theirs = {name: value for name, value in os.environ.items() if name in obeyed}
    listed = _run([str(PYTHON), "-I", "-m", "pip", "config", "list"], {**cleaned, **theirs})
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in found and name in _PIP_KEEPS:
            found[section][name] = str(ast.literal_eval(value))
    kept = {_variable(name): value for each in found.values() for name, value in each.items()}
    return {**cleaned, **kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _variable(name: str) -> str:
    return f"PIP_{name.upper().replace('-', '_')}"


def _clean_environment() -> dict[str, str]:
    """Return the caller's environment without what would turn Python and pip into something else."""
    foreign = ("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _newman() -> None:
    if NODE_MODULES.is_symlink():
        raise CannotInstall(
            f"test/node_modules is a symbolic link to {NODE_MODULES.readlink()}, and npm would empty its target: remove it"
        )
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise CannotInstall("Node.js with npm is needed for newman: apt-get install nodejs npm")
    foreign = ("NODE_ENV", "NODE_OPTIONS", "NODE_PATH")
    left_out = (
        "omit",
        "only",
        "also",
        "production",
        "dev",
        "global",
        "location",
        "prefix",
        "workspaces",
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and name.lower() not in {f"npm_config_{each}" for each in left_out}
    }
    _run([npm, "ci", *_NPM_OPTIONS], environment, folder=NODE_MODULES.parent)
    if not (NODE_MODULES / ".bin" / "newman").exists():
        raise CannotInstall(
            "npm has installed no newman; `npm config list` may tell which of its settings is the reason"
        )
    (NODE_MODULES / "installed").touch()


def _clean() -> None:
    if _is_in_use(DATA / "run" / "lock"):
        raise CannotInstall("a shop runs on .data: stop it first")
    for each in (DATA, NODE_MODULES):
        if each.is_symlink():
            each.unlink()
        elif each.exists():
            shutil.rmtree(each)
    _remove_environment()


def _is_in_use(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path = ROOT) -> str:
    """Run a program and return what it prints.

    Raises CannotInstall with its own words if it fails.
    """
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise CannotInstall(f"{' '.join(command[:5])} ... failed:\n{done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
