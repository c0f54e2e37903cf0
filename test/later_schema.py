"""A schema that is newer than the code.

One revision more for a service, in a folder of the test's own.
"""

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from running_shop import ROOT

#: Behind every revision that the project will ever have.
LATER = "9001"
_INI = """\
[DEFAULT]
prepend_sys_path = {root}
path_separator = os

[{service}]
script_location = {root}/{service}/migrations
version_locations = {root}/{service}/migrations/versions:{folder}
"""
_REVISION = '''"""What the next release will want."""

from alembic import op

revision = "{later}"
down_revision = "{newest}"


def upgrade() -> None:
    """Expand only."""
    for statement in {statements!r}:
        if "CONCURRENTLY" in statement:
            with op.get_context().autocommit_block():
                op.execute(statement)
        else:
            op.execute(statement)


def downgrade() -> None:
    """Nobody goes back."""
    raise NotImplementedError
'''


def newest(service: str) -> str:
    """Return the newest revision that the code of ``service`` knows."""
    head = ScriptDirectory.from_config(config(service)).get_current_head()
    assert head
    return head


def first(service: str) -> str:
    """Return the revision with which the schema of ``service`` began."""
    (base,) = ScriptDirectory.from_config(config(service)).get_bases()
    return base


def config(service: str) -> Config:
    """Return alembic's settings for ``service`` as every deployment has them."""
    return Config(ROOT / "config" / "alembic.ini", ini_section=service)


def add_later(service: str, folder: Path, statements: list[str]) -> Path:
    """Write a revision behind all others of ``service`` into ``folder``.

    Return the alembic.ini with which it is found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    revision = _REVISION.format(later=LATER, newest=newest(service), statements=statements)
    (folder / f"{LATER}_later.py").write_text(revision)
    ini = folder / "alembic.ini"
    ini.write_text(_INI.format(root=ROOT, service=service, folder=folder))
    return ini
