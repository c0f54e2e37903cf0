"""Settings that all services share, read at the start from the environment or secret files.

A service refuses to start on a contradiction, on a key that is too short, and on the values of the
examples in secrets/.
"""

import os
import socket
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from service_chassis.database_url import database_url
from two_phase.http.client import IDLE_SECONDS

KEY_LENGTH_MIN = 32
_EXAMPLE_MARKS = ("example", "change-me", "changeme")


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _is_example(value: str) -> bool:
    return any(mark in value.lower() for mark in _EXAMPLE_MARKS)


def _usable_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if _is_example(value):
        raise ValueError("this is the key of an example; `make secrets` writes real ones")
    if len(value) < KEY_LENGTH_MIN:
        raise ValueError(f"a key has at least {KEY_LENGTH_MIN} characters")
    return key


def _base_urls(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            parts = urlsplit(value)
            is_base = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_base = False
        if not is_base or parts.query or parts.fragment:
            raise ValueError(
                "must be base URLs, such as http://order-service:8001, separated by commas"
            )
    return values


def _urls(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(value, str)
        else value
    )


#: A key shared by two services.
Secret = Annotated[SecretStr, AfterValidator(_usable_key)]

#: The base URLs of one service's replicas, separated by commas in the environment.
Urls = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_urls),
    Field(min_length=1),
    AfterValidator(_base_urls),
]

#: A time limit or a pause: a day is longer than any that makes sense, and no number at all is none.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def told(error: ValidationError) -> str:
    """Return a line for each wrong setting, without its value, which may be a secret."""

    def line(name: str, message: str) -> str:
        return f"{name or 'settings'}: {message.removeprefix('Value error, ')}"

    return "\n".join(
        line("_".join(map(str, each["loc"])).upper(), each["msg"]) for each in error.errors()
    )


class ServiceSettings(BaseSettings):
    """What a deployment sets for any service.

    Every field is an environment variable of the same name in capitals.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    #: The role's password, as it is, if the URL does not have it; ``database_url`` has it then.
    database_password: SecretStr = SecretStr("")
    database_url: SecretStr
    host: str = "0.0.0.0"  # noqa: S104 - a container is reached from outside; the local run sets 127.0.0.1
    public_port: int = Field(default=8000, ge=0, le=65535)
    internal_port: int = Field(default=8001, ge=0, le=65535)
    #: Longer than any client or proxy keeps an idle connection (90 s are usual): the one that
    #: closes first must not be the service, or a request that is just being sent gets lost.
    keep_alive_seconds: int = Field(default=120, le=86_400)
    #: Whether the one request that most are is answered past the framework.
    fast_path: bool = True
    database_pool_size: int = Field(default=8, ge=2, le=100)
    #: The database has a standby that may take over: refuse to start unless commits wait for it.
    synchronous_standby_required: bool = False
    in_doubt_after_seconds: Seconds = 5
    #: How long a stopping service still takes requests after it has said that it is not ready any
    #: more.
    drain_wait_seconds: float = Field(default=0, ge=0, le=86_400, allow_inf_nan=False)
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = (
        "INFO"
    )
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"

    @field_validator("keep_alive_seconds")
    @classmethod
    def _is_longer_than_our_clients_wait(cls, value: int) -> int:
        if value <= IDLE_SECONDS:
            raise ValueError(
                f"must be above {IDLE_SECONDS}: clients of ours keep an unused connection so long,"
                " and"
                " a service that closes it first loses a request"
            )
        return value

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        try:
            socket.getaddrinfo(value, None, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError):
            raise ValueError("is neither an address nor a name of this machine") from None
        return value

    @model_validator(mode="after")
    def _has_two_listeners(self) -> Self:
        if self.public_port == self.internal_port != 0:
            raise ValueError("PUBLIC_PORT and INTERNAL_PORT must differ")
        return self

    @field_validator("database_url")
    @classmethod
    def _is_a_usable_database(cls, value: SecretStr, others: ValidationInfo) -> SecretStr:
        url = database_url(
            value.get_secret_value(), others.data["database_password"].get_secret_value()
        )
        if url.drivername != "postgresql+psycopg2":
            raise ValueError("must begin with postgresql+psycopg2://")
        if _is_example(url.password or ""):
            raise ValueError("has the password of an example; `make secrets` writes real ones")
        return SecretStr(url.render_as_string(hide_password=False))

    @classmethod
    def load(cls) -> Self:
        """Read the environment, and the folder that SECRETS_DIR names.

        Raises ValidationError, SettingsError.
        """
        folder = os.environ.get("SECRETS_DIR")
        if folder and not Path(folder).is_dir():
            raise SettingsError(f"SECRETS_DIR: there is no folder {folder}")
        return cls._load(folder or None)

    @classmethod
    def _load(cls, folder: str | None) -> Self:
        return cls(_secrets_dir=folder)


class ParticipantSettings(ServiceSettings):
    """The settings of a participant: whom it asks about its branches in doubt, and how often."""

    order_urls: Urls
    order_key: Secret
    sweep_interval_seconds: Seconds = 1
    question_timeout_seconds: Seconds = 2
