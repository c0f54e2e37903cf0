"""Settings that all services share, read once at the start from the environment or from mounted secret files.

A service refuses to start on a contradiction, on a key that is too short, and on the values of the examples in secrets/.
"""

import os
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from two_phase.hosting.database_url import database_url

KEY_LENGTH_MIN = 32
_EXAMPLE_MARKS = ("example", "change-me", "changeme")


def _is_example(value: str) -> bool:
    return any(mark in value.lower() for mark in _EXAMPLE_MARKS)


def _usable_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if _is_example(value):
        raise ValueError("this is the key of an example; `make secrets` writes real ones")
    if len(value) < KEY_LENGTH_MIN:
        raise ValueError(f"a key has at least {KEY_LENGTH_MIN} characters")
    return key


def _urls(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


#: A key shared by two services.
Secret = Annotated[SecretStr, AfterValidator(_usable_key)]

#: The base URLs of one service's replicas, separated by commas in the environment.
Urls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_urls), Field(min_length=1)]


class ServiceSettings(BaseSettings):
    """What a deployment sets for any service; every field is an environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    #: The role's password, as it is, if the URL does not have it; ``database_url`` has it then.
    database_password: SecretStr = SecretStr("")
    database_url: SecretStr
    host: str = "0.0.0.0"  # noqa: S104 - a container is reached from outside; the local run sets 127.0.0.1
    public_port: int = Field(default=8000, ge=0, le=65535)
    internal_port: int = Field(default=8001, ge=0, le=65535)
    #: Longer than any client or proxy keeps an idle connection (90 s are usual): the one that closes first must not be the
    #: service, or a request that is just being sent gets lost.
    keep_alive_seconds: int = Field(default=120, ge=1)
    database_pool_size: int = Field(default=8, ge=2, le=100)
    #: The database has a standby that may take over: refuse to start unless commits wait for it.
    synchronous_standby_required: bool = False
    in_doubt_after_seconds: float = Field(default=5, gt=0)
    #: How long a stopping service still takes requests after it has said that it is not ready any more.
    drain_wait_seconds: float = Field(default=0, ge=0)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("database_url")
    @classmethod
    def _is_a_usable_database(cls, value: SecretStr, others: ValidationInfo) -> SecretStr:
        url = database_url(value.get_secret_value(), others.data["database_password"].get_secret_value())
        if url.drivername != "postgresql+psycopg2":
            raise ValueError("must begin with postgresql+psycopg2://")
        if _is_example(url.password or ""):
            raise ValueError("has the password of an example; `make secrets` writes real ones")
        return SecretStr(url.render_as_string(hide_password=False))

    @classmethod
    def load(cls) -> Self:
        """Read the environment, and the folder that SECRETS_DIR names; raises ValidationError."""
        return cls(_secrets_dir=os.environ.get("SECRETS_DIR"))


class ParticipantSettings(ServiceSettings):
    """The settings of a participant: whom it asks about its branches in doubt, and how often."""

    order_urls: Urls
    order_key: Secret
    sweep_interval_seconds: float = Field(default=1, gt=0)
    question_timeout_seconds: float = Field(default=2, gt=0)
