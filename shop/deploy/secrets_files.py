"""Writes secrets/*.yaml from the examples beside them, and .env for compose.yaml.

Every value is random, and for this user alone to read. A file that is there is left alone: a
running database knows its passwords.
"""

import os
import re
import secrets
from pathlib import Path

from shop.project import ROOT

FOLDER = ROOT / "secrets"
COMPOSE = ROOT / "compose.yaml"
_VALUE = re.compile(r"(?m)^(  [a-z-]+: )example-.*$")
#: A variable without which Compose refuses to start.
_VARIABLE = re.compile(r"\$\{([A-Z_]+):\?")
_BYTES = 24


def make(folder: Path = FOLDER) -> list[Path]:
    """Write what is missing in ``folder``, and return what was written."""
    written = []
    for example in sorted(folder.glob("*.yaml.example")):
        path = example.with_suffix("")
        text = example.read_text().split("apiVersion:", 1)[1]
        text = _VALUE.sub(
            lambda line: line[1] + f'"{secrets.token_hex(_BYTES)}"', "apiVersion:" + text
        )
        if _written(path, text):
            written.append(path)
    return written


def make_environment(path: Path = ROOT / ".env") -> list[Path]:
    """Write each secret of compose.yaml that ``path`` lacks; return what was written."""
    names = sorted(set(_VARIABLE.findall(COMPOSE.read_text())))
    text = "".join(f"{name}={secrets.token_hex(_BYTES)}\n" for name in names)
    return [path] if _written(path, text) else []


def _written(path: Path, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


if __name__ == "__main__":
    for made in [*make(), *make_environment()]:
        print(f"wrote {made.relative_to(ROOT)}")  # noqa: T201 - the command's answer
