"""A report as a table on a terminal, plain lines or JSON, with what broke each broken rule."""

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shop.conformance.runner import Finding, Outcome, Report

_STYLES = {Outcome.HELD: "green", Outcome.BROKEN: "bold red", Outcome.NOT_TRIED: "yellow"}


def show(report: Report, console: Console) -> None:
    """Print what became of each rule, then the exchanges that broke any."""
    if console.is_terminal:
        console.print(_table(report))
    else:
        for finding in report.findings:
            console.print(Text(_line(finding)))
    for finding in report.findings:
        if finding.exchange:
            console.print(
                Text(f"\n{finding.name} is broken: {finding.why}", style=_STYLES[Outcome.BROKEN])
            )
            console.print(Text("  > {}\n  < {}".format(*finding.exchange.lines())))
    if report.left_behind:
        console.print(
            Text(
                f"\nleft prepared, and not to be aborted: {', '.join(report.left_behind)}",
                style="bold red",
            )
        )
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in Outcome)
    console.print(Text(f"\n{counts}", style="bold green" if report.is_clean() else "bold red"))


def as_json(url: str, report: Report) -> str:
    """Return the report for a program."""
    return json.dumps(
        {
            "participant": url,
            "rules": [_as_object(finding) for finding in report.findings],
            "left_behind": report.left_behind,
        },
        indent=2,
    )


def _table(report: Report) -> Table:
    table = Table(title="The participant's half of the protocol")
    for column in ("rule", "what must be", "outcome"):
        table.add_column(column)
    for finding in report.findings:
        law = Text(finding.law)
        if finding.why:
            law.append(f"\n{finding.why}", style=_STYLES[finding.outcome])
        table.add_row(
            finding.name, law, Text(finding.outcome.value, style=_STYLES[finding.outcome])
        )
    return table


def _line(finding: Finding) -> str:
    why = f" [{finding.why}]" if finding.why else ""
    return f"{finding.outcome:<9}  {finding.name}: {finding.law}{why}"


def _as_object(finding: Finding) -> dict[str, object]:
    sent, answered = finding.exchange.lines() if finding.exchange else (None, None)
    return {
        "rule": finding.name,
        "law": finding.law,
        "outcome": finding.outcome.value,
        "why": finding.why or None,
        "sent": sent,
        "answered": answered,
    }
