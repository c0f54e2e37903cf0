"""The tables of a decision log, as SQLAlchemy has them.

The application maps one table, whose row *is* the decision on a transaction: the columns of
``DecisionColumns``, the laws of ``decision_laws``, and whatever else the application keeps of a
transaction. The others belong to the log alone and come from ``log_tables``.

``create_all`` of the metadata makes all of them usable; an application with migrations of its own
holds them equal to this.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine

#: The log counts in so many rows, each by lot, so that replicas seldom wait for each other's flush.
SLOTS = 16
_NOW = text("clock_timestamp()")

_NEVER_CHANGES = """
CREATE FUNCTION decision_never_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a decision never changes: %% of transaction %%', TG_OP, OLD.transaction_id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER decision_never_changes BEFORE UPDATE OR DELETE ON %(fullname)s
    FOR EACH ROW EXECUTE FUNCTION decision_never_changes();
"""


class DecisionColumns:
    """The columns of the application's table that mean something to the log."""

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text)
    generation: Mapped[int] = mapped_column(BigInteger)
    #: Which participants the transaction has; unknown of one that was cancelled by a question.
    participants: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    #: Only a final answer holds its key; the digest stands for the request that it answers.
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    request_digest: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=_NOW)


def decision_laws(scope: str) -> tuple[CheckConstraint | Index, ...]:
    """Return the laws of every table of decisions, for ``__table_args__``.

    Keys are unique within the column ``scope``.
    """
    return (
        CheckConstraint("status IN ('confirmed', 'cancelled')", name="decision_is_known"),
        CheckConstraint(
            "(idempotency_key IS NULL) = (request_digest IS NULL)", name="key_knows_its_request"
        ),
        Index(
            "one_final_answer_per_key",
            scope,
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )


def log_tables(metadata: MetaData, scope: str, scope_type: type[TypeEngine[Any]]) -> None:
    """Add the log's own tables to ``metadata``; keys are claimed within ``scope``."""
    # Which transaction may answer an idempotency key, and the attempts before it (R11).
    Table(
        "claims",
        metadata,
        Column(scope, scope_type, primary_key=True, autoincrement=False),
        Column("idempotency_key", Text, primary_key=True),
        Column("transaction_id", Uuid, nullable=False),
        Column("request_digest", Text, nullable=False),
        Column("attempts", ARRAY(Text), nullable=False, server_default="{}"),
        Column("expires_at", DateTime(timezone=True), nullable=False),
    )
    # Participants that were restored from an older backup and wait to be reconciled (R12).
    Table(
        "restored_participants",
        metadata,
        Column("participant", Text, primary_key=True),
        Column("noticed_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    )
    _log_state(metadata)


def _log_state(metadata: MetaData) -> None:
    """Add what a restored log is noticed by: a generation, its counters and those seen (R12)."""
    state = Table(
        "log_state",
        metadata,
        Column("only_row", Boolean, primary_key=True, server_default=text("true")),
        Column("generation", BigInteger, nullable=False, server_default="1"),
        CheckConstraint("only_row", name="log_has_one_state"),
    )
    counters = Table(
        "log_counters",
        metadata,
        Column("slot", SmallInteger, primary_key=True, autoincrement=False),
        Column("written", BigInteger, nullable=False, server_default="0"),
        Column("heard", JSONB, nullable=False, server_default="{}"),
        CheckConstraint(f"slot BETWEEN 0 AND {SLOTS - 1}", name="counter_has_sixteen_slots"),
    )
    _then(state, "INSERT INTO %(fullname)s DEFAULT VALUES")
    _then(counters, f"INSERT INTO %(fullname)s (slot) SELECT generate_series(0, {SLOTS - 1})")


def never_changes(table: Table) -> None:
    """Let ``create_all`` refuse, by a trigger, whatever would change a decision."""
    _then(table, _NEVER_CHANGES)


def _then(table: Table, statement: str) -> None:
    event.listen(table, "after_create", DDL(statement))  # type: ignore[no-untyped-call]
