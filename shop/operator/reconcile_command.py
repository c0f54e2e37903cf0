"""`shop reconcile`: mends what an older backup has torn, shows its progress, and tells what is left for a human."""

import sys
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from shop.operator.reconcile import Findings, Options, reconcile
from shop.operator.services import Services
from shop.project import CannotRun


def run(data: Path, options: Options) -> bool:
    """Reconcile as asked, and return whether nothing is left for a human.

    Raises CannotRun if the services do not answer.
    """
    with Services.found(data) as services:
        findings = _reconciled(services, options)
    _tell(findings, dry_run=options.dry_run)
    return findings.done


def _reconciled(services: Services, options: Options) -> Findings:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed} transactions"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("reconcile", total=None)
        try:
            return reconcile(services, options, lambda seen: bar.update(task, completed=seen))
        except httpx.HTTPError as failure:
            raise CannotRun(
                f"a service does not answer: {failure}; what was done so far stands, run it again"
            ) from failure


def _tell(findings: Findings, *, dry_run: bool) -> None:
    console = Console()
    would = "would be " if dry_run else ""
    table = Table("what", "orders")
    table.add_row(
        f"{would}written into the log again as confirmed", str(len(findings.rebuilt["confirmed"]))
    )
    table.add_row(
        f"{would}written into the log again as cancelled", str(len(findings.rebuilt["cancelled"]))
    )
    for name, orders in findings.replayed.items():
        table.add_row(f"{would}brought back to {name}", str(len(orders)))
    console.print(table)
    console.print(
        f"the log was {'restored' if findings.log_was_restored else 'not restored'} from an older backup"
    )
    console.print(f"participants that were restored: {', '.join(findings.restored) or 'none'}")
    for sentence in findings.for_a_human:
        console.print(sentence, style="red", markup=False, soft_wrap=True)
    for order_id in findings.undecided:
        console.print(
            f"order {order_id}: all participants hold it and none has committed it; the lost log may have confirmed it and told so",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if findings.undecided:
        console.print(
            "say --confirm ID or --cancel ID of each, or all; until then no orders are taken",
            soft_wrap=True,
        )
    elif not dry_run:
        console.print("orders are taken again within a second")
