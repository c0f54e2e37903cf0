"""What an operator's tool says to a coordinator whose log was restored from an older backup, and what the coordinator must do.

The tool looks at the branches of all participants. What they prove is written into the log again,
row by row and first writer wins, as any other decision; what they cannot prove a human has to say.
In the end the log is told how far it had been seen.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from pydantic import Field, StringConstraints

from two_phase.coordinator.decision_log import LogStatus
from two_phase.messages import (
    MAX_INTEGER,
    PROTOCOL_VERSION,
    Decision,
    Message,
    Outcomes,
    TransactionId,
    WholeNumber,
)

#: A counter that is set by hand has room to be counted on.
COUNTER_MAX = MAX_INTEGER // 2
ParticipantName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_.-]{1,63}$")]
#: Rows of one call.
LOST_MAX = 500


class Lost(Message):
    """A transaction that a log has forgotten.

    Its decision, and its branches by participant, as an auditor lists them.
    """

    transaction_id: TransactionId
    decision: Decision
    branches: dict[str, dict[str, Any]]


class Rebuild(Message):
    """What is to be written again."""

    version: WholeNumber = PROTOCOL_VERSION
    lost: list[Lost] = Field(max_length=LOST_MAX)


class Resume(Message):
    """Orders may flow again: the log was seen at ``log_counter``, and these participants are ``reconciled``."""

    version: WholeNumber = PROTOCOL_VERSION
    log_counter: WholeNumber = Field(default=0, ge=0, le=COUNTER_MAX)
    reconciled: list[ParticipantName] = Field(default_factory=list, max_length=100)


class Hold(Message):
    """These participants were restored: nobody is to ask them for a vote."""

    version: WholeNumber = PROTOCOL_VERSION
    restored: list[ParticipantName] = Field(max_length=100)


class Lift(Message):
    """A participant's counter is to be ``counter`` at least."""

    version: WholeNumber = PROTOCOL_VERSION
    counter: WholeNumber = Field(ge=0, le=COUNTER_MAX)


class Reconciliation(Protocol):
    """The coordinator's side; each call may be repeated."""

    async def status(self) -> LogStatus:
        """Return how far the log has come."""
        ...

    async def hold(self, restored: Sequence[str]) -> None:
        """Let all replicas know that these participants were restored, before any has noticed it."""
        ...

    async def rebuild(self, lost: Sequence[Lost]) -> Outcomes:
        """Write what was lost, each unless it is decided, durably.

        Return what the log says of each.

        A transaction that is missing in the answer could not be rebuilt from its branches.
        """
        ...

    async def resume(self, log_counter: int, reconciled: Sequence[str]) -> None:
        """Lift the log's counter to ``log_counter``, in a new generation if it was lower, and trust these participants again."""
        ...
