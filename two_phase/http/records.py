"""Answers of the internal endpoints beside the protocol: records, counters, standings.

These models are for documents; what is answered is written from the records themselves.
"""

from typing import Any

from pydantic import BaseModel, Field

from two_phase.messages import Decision, State, TransactionId

#: Where a document has the schema of a model.
REF = "#/components/schemas/{model}"


class BranchRecord(BaseModel):
    """A branch as it stands."""

    transaction_id: TransactionId
    state: State
    generation: int
    payload: dict[str, Any] | None
    facts: dict[str, Any]
    reason: str | None
    detail: str | None
    contended: bool
    memo: dict[str, Any] | None
    age_seconds: float


class BranchList(BaseModel):
    """Branches by id; the next ones are listed `after` the last."""

    items: list[BranchRecord]


class Unbalanced(BaseModel):
    """A resource of which something got lost or was made up."""

    id: int
    put_in: int
    available: int
    taken: int


class Conservation(BaseModel):
    """How many resources were looked at, and those that are not conserved."""

    checked: int = Field(ge=0)
    broken: list[Unbalanced]


class CountersRecord(BaseModel):
    """How many forced rounds there were, and how far the log was seen."""

    counter: int = Field(ge=0)
    log_seen: int = Field(ge=0)


class DecisionRecord(BaseModel):
    """A decision, with what each of its branches must hold where that is known."""

    transaction_id: TransactionId
    decision: Decision
    generation: int
    age_seconds: float
    payloads: dict[str, dict[str, Any]] | None
    memo: dict[str, Any] | None


class DecisionList(BaseModel):
    """Decisions by id; the next ones are listed `after` the last."""

    items: list[DecisionRecord]


class StandingRecord(BaseModel):
    """How far the log has come, and which participants wait to be reconciled."""

    generation: int
    written: int
    heard: dict[str, int]
    restored: list[str]


class Done(BaseModel):
    """It is done, and there is nothing to tell."""


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a document says of the body of an endpoint that reads it itself."""
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
