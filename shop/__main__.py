"""The `shop` command: python -m shop up, python -m shop demo."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from shop.conformance.command import conformance
from shop.topology import SERVICES, Service

app = typer.Typer(
    help=__doc__.splitlines()[0] if __doc__ else None, no_args_is_help=True, add_completion=False
)

Data = Annotated[
    Path, typer.Option(envvar="SHOP_DATA", help="The folder for data, logs and pid files.")
]
Port = Annotated[
    int,
    typer.Option(
        envvar="SHOP_PORT",
        min=0,
        max=65535,
        help="The gateway's port on 127.0.0.1; 0 takes a free one.",
    ),
]
Replicas = Annotated[
    int,
    typer.Option(envvar="SHOP_REPLICAS", min=1, max=8, help="How many processes of each service."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="DATABASE_URL",
        help="An administrator's URL of a PostgreSQL server to use instead of one of our own.",
    ),
]
PgBinDir = Annotated[
    Path | None,
    typer.Option(
        envvar="PG_BIN_DIR", help="The folder of PostgreSQL's programs, if not to be searched for."
    ),
]

ShopsDatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="DATABASE_URL",
        help="An administrator's URL of the shop's database, or of a server on which `shop up` has made one for DATA.",
    ),
]


def _service(name: str) -> Service:
    found = next((service for service in SERVICES if service.name == name), None)
    if found is None:
        raise typer.BadParameter(
            f"{name} is not one of {', '.join(each.name for each in SERVICES)}"
        )
    return found


def _say(line: str) -> None:
    # A terminal that has gone is no reason to stop, or to stop badly.
    with contextlib.suppress(OSError):
        typer.echo(line)


@app.callback()
def _shop(context: typer.Context) -> None:
    """Run, show and operate the shop, whose orders are atomic across its services."""
    from shop.local import environment

    for sentence in environment.unknown_settings({*_variables(context.command)}):
        typer.echo(f"warning: {sentence}", err=True)
    # The command that restarts a participant under trial gets the environment as it is.
    if context.invoked_subcommand != "conformance":
        environment.forget_libpq()


def _variables(command: Any) -> Iterator[str]:
    """Yield the environment variables that ``command`` and those under it read."""
    for parameter in command.params:
        yield from (
            [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
        )
    for each in getattr(command, "commands", {}).values():
        yield from _variables(each)


@app.command()
def up(
    data: Data = Path(".data"),
    port: Port = 8080,
    replicas: Replicas = 1,
    database_url: DatabaseUrl = None,
    pg_bin_dir: PgBinDir = None,
) -> None:
    """Run the shop: PostgreSQL, migrations, the services and the gateway, until Ctrl-C."""
    from shop.local.up import Options
    from shop.local.up import up as run
    from shop.project import CannotRun

    try:
        run(Options(data, port, replicas, database_url, pg_bin_dir), _say)
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot run the shop: {reason}", err=True)
        raise typer.Exit(1) from None


@app.command()
def demo(database_url: DatabaseUrl = None) -> None:
    """Start a shop of its own, play the homework scenario on it, show every answer, stop it.

    Exits 0 if all seven steps held.
    """
    from shop.demo.demo import demo as run
    from shop.project import CannotRun

    try:
        held = run(database_url)
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot show the shop: {reason}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if held else 1)


@app.command("audit")
def audit_(
    data: Data = Path(".data"),
    in_doubt_seconds: Annotated[
        float,
        typer.Option(
            min=0, help="How long a branch may be in doubt before it counts as a violation."
        ),
    ] = 10,
    watch_seconds: Annotated[
        int,
        typer.Option(
            min=0, help="Audit again and again, so many seconds apart, until Ctrl-C; 0 audits once."
        ),
    ] = 0,
    metrics_port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            help="Serve the result of the last audit for Prometheus on this port; 0 does not.",
        ),
    ] = 0,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Compare the log with all branches on the live system.

    Exits 1 if anything contradicts, and says which order.
    """
    from shop.operator.audit_command import Options, run
    from shop.project import CannotRun

    try:
        clean = run(Options(data, in_doubt_seconds, watch_seconds, metrics_port, as_json))
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot audit the shop: {reason}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if clean else 1)


@app.command()
def backup(
    file: Annotated[
        Path, typer.Argument(help="The file to write; only its owner may read it.", metavar="FILE")
    ],
    data: Data = Path(".data"),
    database_url: ShopsDatabaseUrl = None,
    pg_bin_dir: PgBinDir = None,
) -> None:
    """Write one moment of all schemas into a file, while the shop runs or while it does not."""
    from shop.operator.backup_command import Options, back_up
    from shop.project import CannotRun

    try:
        back_up(Options(file, data, database_url, pg_bin_dir))
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot back up the shop: {reason}", err=True)
        raise typer.Exit(1) from None


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `shop backup` has written.", metavar="FILE")],
    only: Annotated[
        list[Service] | None,
        typer.Option(
            parser=_service,
            metavar="SERVICE",
            help=f"Bring back the schema of {', '.join(each.name for each in SERVICES[:-1])} or {SERVICES[-1].name} alone, "
            "which then contradicts the others; may be repeated.",
        ),
    ] = None,
    data: Data = Path(".data"),
    database_url: ShopsDatabaseUrl = None,
    pg_bin_dir: PgBinDir = None,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace what is there without asking.")
    ] = False,
) -> None:
    """Bring all schemas back to the moment of a backup, all or nothing.

    The services must not run meanwhile.
    """
    from shop.operator.backup_command import Options
    from shop.operator.backup_command import restore as run
    from shop.project import CannotRun

    try:
        run(
            Options(file, data, database_url, pg_bin_dir),
            [service.package for service in only or ()],
            is_sure=yes,
        )
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot restore the shop: {reason}", err=True)
        raise typer.Exit(1) from None


@app.command("reconcile")
def reconcile_(
    data: Data = Path(".data"),
    confirm: Annotated[
        list[str] | None,
        typer.Option(
            help="An order that all participants hold and that was confirmed: its id, or all. May be repeated."
        ),
    ] = None,
    cancel: Annotated[
        list[str] | None,
        typer.Option(
            help="An order that all participants hold and that is to be cancelled: its id, or all. May be repeated."
        ),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option(help="Print what would be done, and do nothing.")
    ] = False,
) -> None:
    """Mend what an older backup has torn, while the services run.

    Exits 1 if something is left for a human, and says what.

    A participant that was restored gets back every confirmed order that it has lost. A log that was
    restored gets back every decision that its participants can prove. Then orders are taken again.
    It may be interrupted, and run again.
    """
    from shop.operator.reconcile import Options
    from shop.operator.reconcile_command import run
    from shop.project import CannotRun

    try:
        done = run(data, Options(dry_run, frozenset(confirm or ()), frozenset(cancel or ())))
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot reconcile the shop: {reason}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if done else 1)


app.command()(conformance)


if __name__ == "__main__":
    app()
