"""The backup of docs/production.md, word by word: dumped, ordered on, brought back, and audited."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, text

from cluster import cluster, oracles
from shop.deploy.kubernetes_tools import found
from shop.project import ROOT

PAGE = ROOT / "docs" / "production.md"


def commands() -> tuple[str, str]:
    """Return what the page says: how a dump is made, and how it is brought back."""
    section = PAGE.read_text().split("## Backup\n", 1)[1]
    dump, restore, *_ = re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return dump, restore


def dumped_and_restored(order: Callable[[], None]) -> None:
    """Dump, ``order`` more, bring the dump back: what was ordered since is gone everywhere alike.

    Raises CommandFailed.
    """
    dump, restore = commands()
    with tempfile.TemporaryDirectory() as name:
        _bash(dump, Path(name))
        before = _orders()
        order()
        since = _orders()
        _bash(restore, Path(name))
    cluster.wait_until_ready()
    after = _orders()
    wrong = oracles.complaints()
    if not before == after < since or wrong:
        raise cluster.CommandFailed(
            f"{before} orders were dumped, {since} there were then, {after} came back; {wrong}"
        )


def _bash(commands: str, folder: Path) -> None:
    path = f"{Path(found('kubectl')).parent}{os.pathsep}{os.environ['PATH']}"
    cluster.run(
        "env", f"--chdir={folder}", f"PATH={path}", "bash", "-euo", "pipefail", "-c", commands
    )


def _orders() -> int:
    with cluster.forwarded("service-postgresql", 5432) as port:
        engine = create_engine(oracles.address(port))
        with engine.connect() as connection:
            count = int(
                connection.execute(text("SELECT count(*) FROM order_service.orders")).scalar_one()
            )
        engine.dispose()
        return count
