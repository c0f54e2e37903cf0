"""The three ways in which a call of the protocol can fail.

`service_chassis.problems` maps each to a status.
"""

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """A participant's business no: a vote, and a 409 to the client.

    ``contended`` says that only undecided transactions stand in the way, so that a second try may
    succeed; ``facts`` are what the coordinator may learn from the refusal (what would have been
    accepted, for example).
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        contended: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.contended = contended
        self.facts: dict[str, Any] = dict(facts or {})


class Unavailable(Exception):
    """No answer can be given now; the call may be repeated after ``retry_after_seconds``."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class ProtocolViolation(Exception):
    """A message contradicts the protocol: refused, logged, counted, and never retried blindly."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
