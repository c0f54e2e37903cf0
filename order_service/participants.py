"""The setting PARTICIPANTS: whom the coordinator asks.

A JSON object with a member for each participant, here with a line for each:

    {"payment": {"urls": "http://payment-1:8001,http://payment-2:8001", "key_file": "/etc/shop/keys/payment-key"},
     "stock":   {"urls": ["http://stock:8001"], "key": "..."}}

``urls`` are the internal listeners of its replicas, as a list or separated by commas. The key that both sides
share stands in ``key``, or alone in the file that ``key_file`` names.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_settings import NoDecode, SettingsError

from service_chassis.settings import Secret, Urls
from two_phase.coordinator.decision_log import LOG

_NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Those of the releases before PARTICIPANTS, each with NAME_URLS and NAME_KEY.
_DEPRECATED = ("payment", "stock", "delivery")
DEPRECATION = "PARTICIPANTS is not set, and PAYMENT_URLS and the like are taken instead; a later release will not read them"


class ParticipantAddress(BaseModel):
    """Where one participant's replicas are, and the key that opens them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    urls: Urls
    key: Secret

    @model_validator(mode="before")
    @classmethod
    def _read_key(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "key_file" not in given:
            return given
        if "key" in given:
            raise ValueError("has both key and key_file")
        path = given["key_file"]
        try:
            key = Path(path).read_text().strip()
        except (OSError, TypeError, ValueError):
            # A path is no secret; a key that was put in its place by mistake is, so it is not shown.
            raise ValueError("key_file names no file that can be read") from None
        return {name: value for name, value in given.items() if name != "key_file"} | {"key": key}


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is no JSON object such as "
            f'{{"payment": {{"urls": "http://payment-service:8001", "key_file": "/path"}}}}: '
            f"{error.msg} at character {error.pos + 1}"
        ) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return dict(pairs)


def _named(
    participants: Mapping[str, ParticipantAddress],
) -> Mapping[str, ParticipantAddress]:
    if not participants:
        raise ValueError("names no participant")
    for name in participants:
        if not _NAME.fullmatch(name) or name == LOG:
            raise ValueError(
                f"a participant's name has small letters, digits and underscores, and is not {LOG}"
            )
    return participants


#: By the names that stand in the log, in the order in which the customer hears of refusals.
Participants = Annotated[
    dict[str, ParticipantAddress],
    NoDecode,
    BeforeValidator(_decoded),
    AfterValidator(_named),
]


def by_deprecated_names(folder: str | None) -> dict[str, Any] | None:
    """Return what NAME_URLS and NAME_KEY say, in the form of PARTICIPANTS.

    None if PARTICIPANTS is set, or none of them is. ``folder`` has secrets as files. Raises
    SettingsError if one of them is missing.
    """
    files = {path.name.upper(): path for path in Path(folder).iterdir()} if folder else {}
    if "PARTICIPANTS" in {*os.environ, *files} or not any(
        f"{name}_URLS".upper() in {*os.environ, *files} for name in _DEPRECATED
    ):
        return None

    def setting(name: str) -> str:
        if name not in os.environ and name not in files:
            raise SettingsError(f"{name}: is missing; better set PARTICIPANTS, which replaces it")
        return os.environ[name] if name in os.environ else files[name].read_text().strip()

    return {
        name: {"urls": setting(f"{name}_URLS".upper()), "key": setting(f"{name}_KEY".upper())}
        for name in _DEPRECATED
    }
