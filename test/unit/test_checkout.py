"""What a checkout may look like.

Written by a Git that likes other line ends, and for no other user to read.
"""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_clone_of_a_git_that_writes_crlf_has_our_line_ends(tmp_path: Path) -> None:
    """A shell script, a lock file with hashes, or a file that goes into an image would not work otherwise."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    for name in (".gitattributes", "Makefile", "requirements.lock", ".ci/run"):
        (origin / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, origin / name)
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "all")):
        subprocess.run(["git", *command], cwd=origin, check=True)

    subprocess.run(
        ["git", "clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", origin, clone],
        check=True,
    )

    files = [
        path
        for path in clone.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(clone).parts
    ]
    assert len(files) >= 3
    assert not [path for path in files if b"\r\n" in path.read_bytes()]


def test_image_of_a_checkout_that_only_its_owner_may_read_can_be_read_by_its_user() -> None:
    """COPY keeps the modes of a checkout under umask 077.

    So all of it goes through a stage that opens it.
    """
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]
    first, last = stages
    copied = [line.split() for line in last.splitlines() if line.startswith("COPY ")]

    assert all(words[1] == "--from=packages" for words in copied)
    assert {words[2] for words in copied} == {"/opt/shop", "/shop"}
    assert first.rstrip().endswith("chmod -R a+rX /shop /opt/shop")
