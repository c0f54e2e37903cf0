"""What a deployment sets for order_service, read once from the environment."""

from typing import Self

from pydantic import Field, PrivateAttr, model_validator

from order_service.participants import (
    DEPRECATION,
    Participants,
    by_deprecated_names,
)
from service_chassis.settings import Seconds, ServiceSettings
from two_phase.coordinator.limits import Limits


class OrderSettings(ServiceSettings):
    """The coordinator's settings: whom it asks, with which keys, and how long it waits."""

    participants: Participants
    prepare_timeout_seconds: Seconds = 2
    decision_timeout_seconds: Seconds = 1
    client_deadline_seconds: Seconds = 5
    in_doubt_after_seconds: Seconds = 5
    batch_limit: int = Field(default=128, ge=1, le=1024)
    queue_limit: int = Field(default=512, ge=1)
    #: What the log is to say about these settings once it is there.
    _remarks: tuple[str, ...] = PrivateAttr(default=())

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what the operator should hear about these settings."""
        return self._remarks

    @classmethod
    def _load(cls, folder: str | None) -> Self:
        participants = by_deprecated_names(folder)
        if participants is None:
            return super()._load(folder)
        settings = cls(_secrets_dir=folder, participants=participants)
        settings._remarks = (DEPRECATION,)
        return settings

    @model_validator(mode="after")
    def _patience_is_in_order(self) -> Self:
        busy_seconds = self.prepare_timeout_seconds + self.decision_timeout_seconds
        if self.in_doubt_after_seconds <= busy_seconds:
            message = "IN_DOUBT_AFTER_SECONDS must be longer than PREPARE_TIMEOUT_SECONDS + DECISION_TIMEOUT_SECONDS"
            raise ValueError(message)
        if self.client_deadline_seconds < busy_seconds:
            message = "CLIENT_DEADLINE_SECONDS must not be shorter than PREPARE_TIMEOUT_SECONDS + DECISION_TIMEOUT_SECONDS"
            raise ValueError(message)
        return self

    def limits(self) -> Limits:
        """Return the coordinator's limits.

        An order that can no longer be decided in time is not begun.
        """
        busy_seconds = self.prepare_timeout_seconds + self.decision_timeout_seconds
        return Limits(
            batch=self.batch_limit,
            queue=self.queue_limit,
            unsure=2 * self.queue_limit,
            prepare_seconds=self.prepare_timeout_seconds,
            decision_seconds=self.decision_timeout_seconds,
            queue_timeout_seconds=max(0.1, self.client_deadline_seconds - busy_seconds),
        )
