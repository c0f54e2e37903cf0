"""What the shop costs while nobody uses it.

Processor time over half a minute, and memory, of every process.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import usage
from rich.console import Console
from rich.table import Table
from shop_system import Shop

CPU_PERCENT_MAX = 1.0
RSS_MB_MAX = 90.0


@dataclass(frozen=True)
class Idle:
    """One process at rest."""

    cpu_percent: float
    rss_mb: float
    #: Whether it is one of ours: the limits are those of a service process.
    is_service: bool = True

    def is_modest(self) -> bool:
        """Return whether it keeps the limits."""
        return not self.is_service or (
            self.cpu_percent < CPU_PERCENT_MAX and self.rss_mb < RSS_MB_MAX
        )


def measured(shop: Shop, seconds: int) -> dict[str, Idle]:
    """Watch all processes of a shop that has nothing to do.

    `postgres` is the server with all its backends.
    """
    pids = {**shop.pids(), "gateway": shop.gateway()}
    before = {name: usage.cpu_seconds(pid) for name, pid in pids.items()}
    postgres = usage.cpu_seconds_of_family(shop.server.pid)
    time.sleep(seconds)
    postgres = usage.cpu_seconds_of_family(shop.server.pid) - postgres
    found = {
        name: Idle(
            (usage.cpu_seconds(pid) - before[name]) / seconds * 100,
            usage.rss_mb(pid),
            name != "gateway",
        )
        for name, pid in pids.items()
    }
    memory = usage.proportional_mb_of_family(shop.server.pid)
    return {**found, "postgres": Idle(postgres / seconds * 100, memory, is_service=False)}


def tell(console: Console, found: Mapping[str, Idle], seconds: int) -> None:
    """Show it, with the limits."""
    table = Table(
        title=f"at rest for {seconds} s; a service may use {CPU_PERCENT_MAX:g} % of a core and {RSS_MB_MAX:g} MB"
    )
    for heading in ("process", "% of a core", "MB", "within the limits"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for name, idle in found.items():
        modest = ("yes" if idle.is_modest() else "NO") if idle.is_service else ""
        table.add_row(name, f"{idle.cpu_percent:.2f}", f"{idle.rss_mb:.0f}", modest)
    console.print(table)


def as_json(found: Mapping[str, Idle]) -> dict[str, Any]:
    """Return everything for the result file."""
    return {name: asdict(idle) for name, idle in found.items()}
