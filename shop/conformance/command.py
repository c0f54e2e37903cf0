"""The command line of `shop conformance`.

What it does is imported late, so that the help of other commands is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

Participant = Annotated[str, typer.Argument(help="The URL of its internal port.", metavar="URL")]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="The file with the shared key; or PARTICIPANT_KEY in the environment."),
]
AnyPayload = Annotated[
    str | None,
    typer.Option(help="JSON that the participant accepts, with enough to take for ten of them."),
]
RefusedPayload = Annotated[str | None, typer.Option(help="JSON that the participant refuses.")]
SizedPayload = Annotated[
    str | None, typer.Option(help="JSON in which {amount} stands for how much is asked for.")
]
Capacity = Annotated[
    int | None, typer.Option(min=1, help="How much of that there is to take: exactly so much.")
]
RestartCommand = Annotated[
    str | None,
    typer.Option(
        help="Restarts the participant, and ends when the old process is gone; kill -9 shows the most."
    ),
]
Generation = Annotated[
    int, typer.Option(min=1, help="The generation of the log that the rounds claim to come from.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def conformance(
    participant: Participant,
    *,
    key_file: KeyFile = None,
    payload: AnyPayload = None,
    refused_payload: RefusedPayload = None,
    sized_payload: SizedPayload = None,
    capacity: Capacity = None,
    restart_command: RestartCommand = None,
    generation: Generation = 1,
    json_: AsJson = False,
) -> None:
    """Try the participant's half of the protocol at any URL.

    Exits 1 if a rule is broken, and shows where.

    No coordinator should be within the participant's reach meanwhile: it would cancel what the
    trial has prepared.
    """
    from shop.conformance.trial_options import TrialOptions, tried
    from shop.project import CannotRun

    options = TrialOptions(
        participant,
        key_file,
        payload,
        refused_payload,
        sized_payload,
        capacity,
        restart_command,
        generation,
        json_,
    )
    try:
        nothing_broken = tried(options)
    except (CannotRun, OSError) as reason:
        typer.echo(f"cannot try the participant: {reason}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if nothing_broken else 1)
