"""`shop audit`: runs the audit once or again and again, shows its progress, and tells what it has found."""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client import Gauge, start_http_server
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from shop.operator.audit import Findings, audit
from shop.operator.services import Services
from shop.project import CannotRun


@dataclass(frozen=True)
class Options:
    """What the operator has asked for."""

    data: Path
    in_doubt_seconds: float
    watch_seconds: int
    metrics_port: int
    as_json: bool


def run(options: Options) -> bool:
    """Audit as asked, and return whether nothing was found.

    Raises CannotRun if the services do not answer.
    """
    violations = Gauge("shop_audit_violations", "Violations found by the last audit")
    finished = Gauge("shop_audit_finished_timestamp_seconds", "When the last audit ended")
    if options.metrics_port:
        start_http_server(options.metrics_port)
    with Services.found(options.data) as services:
        while True:
            findings = _audited(services, options)
            violations.set(len(findings.violations))
            finished.set_to_current_time()
            _tell(findings, as_json=options.as_json)
            if not options.watch_seconds:
                return not findings.violations
            time.sleep(options.watch_seconds)


def _audited(services: Services, options: Options) -> Findings:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed} transactions"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("audit", total=None)
        try:
            return audit(
                services,
                in_doubt_seconds=options.in_doubt_seconds,
                progress=lambda seen: bar.update(task, completed=seen),
            )
        except httpx.HTTPError as failure:
            raise CannotRun(f"a service does not answer: {failure}") from failure


def _tell(findings: Findings, *, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.print_json(json.dumps(dataclasses.asdict(findings)))
        return
    table = Table("looked at", "number")
    table.add_row("transactions", str(findings.transactions))
    table.add_row("confirmed", str(findings.confirmed))
    table.add_row("cancelled", str(findings.cancelled))
    table.add_row("in doubt", str(findings.in_doubt))
    for name, checked in findings.resources.items():
        table.add_row(f"{name}: resources", str(checked))
    console.print(table)
    for violation in findings.violations:
        console.print(violation, style="red", markup=False, soft_wrap=True)
    console.print(f"{len(findings.violations)} violations")
