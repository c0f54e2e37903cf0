"""Writes secrets/*.yaml from the examples beside them: every value a random one, for this user alone to read.

A file that is there is left alone: a running database knows its passwords.
"""

import os
import re
import secrets
from pathlib import Path

from shop.program import ROOT

FOLDER = ROOT / "secrets"
_VALUE = re.compile(r"(?m)^(  [a-z-]+: )example-.*$")
_BYTES = 24


def make(folder: Path = FOLDER) -> list[Path]:
    """Write what is missing in ``folder``, and return what was written."""
    written = []
    for example in sorted(folder.glob("*.yaml.example")):
        path = example.with_suffix("")
        text = example.read_text().split("apiVersion:", 1)[1]
        text = _VALUE.sub(lambda line: line[1] + f'"{secrets.token_hex(_BYTES)}"', "apiVersion:" + text)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        written.append(path)
    return written


if __name__ == "__main__":
    for made in make():
        print(f"wrote {made.relative_to(ROOT)}")  # noqa: T201 - the command's answer
