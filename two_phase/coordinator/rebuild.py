"""What an operator's tool tells a coordinator whose log was restored from an older backup.

The tool looks at the branches of all participants. What they prove is written into the log again,
row by row and first writer wins, as any other decision; what they cannot prove a human has to say.
In the end the log is told how far it had been seen (R12).

The application says what a row had been, from what the participants have kept of it.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from two_phase.coordinator.decision_log import LogStatus
from two_phase.coordinator.log_statements import RESUME, Row, tombstone
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.verdict import Transaction, Verdict
from two_phase.messages import (
    MAX_INTEGER,
    PROTOCOL_VERSION,
    Decision,
    Message,
    Outcomes,
    TransactionId,
    Vote,
    WholeNumber,
)
from two_phase.sql import id_array

log = logging.getLogger(__name__)

_PROMISED = ("prepared", "committed")
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
    """Let transactions flow: the log was seen at ``log_counter``; these are ``reconciled``."""

    version: WholeNumber = PROTOCOL_VERSION
    log_counter: WholeNumber = Field(default=0, ge=0, le=COUNTER_MAX)
    reconciled: list[ParticipantName] = Field(default_factory=list, max_length=100)


class Hold(Message):
    """These participants were restored: no replica is to ask them for a vote."""

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
        """Tell all replicas that these participants were restored, before any notices it."""
        ...

    async def rebuild(self, lost: Sequence[Lost]) -> Outcomes:
        """Write what was lost, each unless it is decided, durably.

        Return what the log says of each.

        A transaction that is missing in the answer could not be rebuilt from its branches.
        """
        ...

    async def resume(self, log_counter: int, reconciled: Sequence[str]) -> None:
        """Raise the log's counter to ``log_counter``, in a new generation if it was lower."""
        ...


#: What the application's columns had been, or None if the branches cannot tell.
RowOfLost = Callable[[Lost], Mapping[str, Any] | None]


class SqlReconciliation:
    """The operator's side of the log in PostgreSQL."""

    def __init__(self, decision_log: SqlDecisionLog, row_of_lost: RowOfLost) -> None:
        self._log = decision_log
        self._row_of_lost = row_of_lost

    async def status(self) -> LogStatus:
        """Return how far the log has come."""
        return await self._log.status()

    async def hold(self, restored: Sequence[str]) -> None:
        """Let all replicas know that these participants were restored."""
        for participant in restored:
            await self._log.note_restored(participant)

    async def rebuild(self, lost: Sequence[Lost]) -> Outcomes:
        """Write what was lost; see Reconciliation."""
        rows = [row for each in lost if (row := rebuilt(each, self._row_of_lost)) is not None]
        ids = [row["transaction_id"] for row in rows]
        statement = self._log.statements.rebuild

        def written(connection: Connection) -> Outcomes:
            connection.execute(statement, {"rows": json.dumps(rows)})
            said = self._log.found(connection, ids)
            if lost_key := without_answer(rows, said):
                connection.execute(statement, {"rows": json.dumps(lost_key)})
                said = self._log.found(connection, ids)
            return said

        log.warning("lost decisions are written again", extra={"transactions": len(rows)})
        return await self._log.run(written)

    async def resume(self, log_counter: int, reconciled: Sequence[str]) -> None:
        """Let transactions flow again; see Reconciliation."""
        parameters = {"log_counter": log_counter, "reconciled": id_array(reconciled)}
        log.warning(
            "reconciled", extra={"log_counter": log_counter, "participants": list(reconciled)}
        )
        await self._log.run(lambda connection: connection.execute(RESUME, parameters))


def rebuilt(lost: Lost, row_of_lost: RowOfLost) -> Row | None:
    """Return the row that was lost, or None if the branches do not prove it."""
    try:
        return _rebuilt(lost, row_of_lost)
    except (KeyError, TypeError, ValueError, AttributeError) as failure:
        # These are no branches of ours: something is missing in them, or is of another kind.
        log.warning("a lost decision has no branches of ours", extra={"why": repr(failure)})
        return None


def _rebuilt(lost: Lost, row_of_lost: RowOfLost) -> Row | None:
    confirmed = lost.decision is Decision.CONFIRMED
    if confirmed and not all(branch["state"] in _PROMISED for branch in lost.branches.values()):
        return None
    fixed = {
        "transaction_id": lost.transaction_id,
        "generation": max(
            (int(branch["generation"]) for branch in lost.branches.values()), default=1
        ),
        "status": lost.decision,
        "participants": list(lost.branches),
    }
    columns = row_of_lost(lost)
    if columns is None:
        return None if confirmed else tombstone(fixed)
    return {"idempotency_key": None, **columns, **fixed}


def verdict_of(lost: Lost, payloads: Mapping[str, Mapping[str, Any]], record: Any) -> Verdict:
    """Return the verdict that had led to the decision, for what the application keeps of it."""
    transaction = Transaction(lost.transaction_id, payloads, record=record)
    voted = {
        name: branch
        for name, branch in lost.branches.items()
        if branch["payload"] or branch["reason"]
    }
    votes = {name: _vote(lost.transaction_id, branch) for name, branch in voted.items()}
    return Verdict(transaction, lost.decision, votes)


def without_answer(rows: Sequence[Row], said: Outcomes) -> list[Row]:
    """Return the refusals among ``rows`` whose key another transaction has answered."""
    missing = [
        row for row in rows if row["transaction_id"] not in {*said.confirmed, *said.cancelled}
    ]
    return [tombstone(row) for row in missing if row["status"] == Decision.CANCELLED]


def _vote(transaction_id: str, branch: Mapping[str, Any]) -> Vote:
    """Return what the participant had voted.

    An aborted branch without a reason had been prepared.
    """
    refused = branch["reason"] is not None
    return Vote(
        transaction_id=transaction_id,
        prepared=not refused,
        reason=branch["reason"],
        detail=branch["detail"],
        contended=branch["contended"],
        facts=branch["facts"],
    )
