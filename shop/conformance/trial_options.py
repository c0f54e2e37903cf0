"""What a trial is asked to do by its command line, checked, and done."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from shop.conformance.restart import restarter
from shop.conformance.runner import run
from shop.conformance.table import as_json, show
from shop.conformance.trial import Offer, Payload, Trial
from shop.conformance.wire import TIMEOUT_SECONDS, Wire
from shop.project import CannotRun

KEY_VARIABLE = "PARTICIPANT_KEY"


@dataclass(frozen=True)
class TrialOptions:
    """The options of `shop conformance`, as they were written."""

    participant: str
    key_file: Path | None
    payload: str | None
    refused_payload: str | None
    sized_payload: str | None
    capacity: int | None
    restart_command: str | None
    generation: int
    as_json: bool


def tried(options: TrialOptions) -> bool:
    """Try the participant, print the report, and return whether nothing is broken.

    Raises CannotRun.
    """
    offer, key = _offer(options), _key(options.key_file)
    try:
        client = httpx.Client(
            base_url=options.participant, timeout=TIMEOUT_SECONDS, trust_env=False
        )
    except httpx.InvalidURL as error:
        raise CannotRun(f"{options.participant} is no URL: {error}") from None
    with client:
        wire = Wire(client, key, options.generation)
        wire.check_reachable()
        report = run(Trial(wire, offer, restarter(options.restart_command, wire)))
    if options.as_json:
        print(as_json(options.participant, report))  # noqa: T201 - the report itself
    else:
        show(report, Console(highlight=False, soft_wrap=True))
    return report.is_clean()


def _key(file: Path | None) -> str:
    try:
        key = file.read_text().strip() if file else os.environ.get(KEY_VARIABLE, "")
    except (OSError, UnicodeError) as error:
        raise CannotRun(f"--key-file: {error}") from None
    if not key:
        raise CannotRun(
            f"the shared key is needed: --key-file, or {KEY_VARIABLE} in the environment"
        )
    if not (key.isascii() and key.isprintable()):
        raise CannotRun("the shared key has characters that no header can carry")
    return key


def _offer(options: TrialOptions) -> Offer:
    payload = _payload("--payload", options.payload)
    refused = _payload("--refused-payload", options.refused_payload)
    sized = options.sized_payload
    if sized is not None:
        if "{amount}" not in sized:
            raise CannotRun("--sized-payload has no {amount}")
        _payload("--sized-payload", sized.replace("{amount}", "1"))
    return Offer(payload, refused, sized, options.capacity)


def _payload(option: str, text: str | None) -> Payload | None:
    if text is None:
        return None
    try:
        payload: Any = json.loads(text)
    except ValueError as error:
        raise CannotRun(f"{option} is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise CannotRun(f"{option} is not a JSON object")
    return payload
