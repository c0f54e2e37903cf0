"""The messages that a coordinator and its participants exchange.

A round is one request to one participant. It carries the aborts, the commits and the prepares of
many transactions, which are applied in that order; its answer carries a vote for each prepare and
an acknowledgement for each decision. Both are pydantic models, so that the JSON on the wire is
checked field by field before anything of it is believed.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

#: Raised when a message changes its meaning; one of another version is refused.
PROTOCOL_VERSION = 1

#: The largest integer that every JSON reader keeps exact (RFC 8259, section 6).
MAX_INTEGER = 2**53 - 1

#: Limits of one round: prepares, the decisions that ride along with them, and the bytes of it all.
ROUND_PREPARES_MAX = 1024
ROUND_DECISIONS_MAX = 4096
ROUND_BYTES_MAX = 16 * 1024 * 1024

#: A UUID in canonical lower-case text (version 7 where the coordinator makes it).
TransactionId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
]


def new_transaction_id() -> TransactionId:
    """Return a new UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    digits = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Decision(StrEnum):
    """What the decision log says of a transaction, once and for all."""

    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class State(StrEnum):
    """Where a participant's branch stands."""

    #: Durable and promised: can be committed and can be aborted, whatever happened since.
    PREPARED = "prepared"
    #: The transaction is confirmed; nothing can change this branch any more.
    COMMITTED = "committed"
    #: Refused, given back, or aborted before its prepare came; a later prepare is refused.
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Taken:
    """A participant's yes: what was asked for is held.

    ``facts`` travel with the vote, to the coordinator.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)


def _whole(value: object) -> object:
    return (
        int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INTEGER
        else value
    )


#: An integer as JSON Schema has it: 1.0 is 1.
WholeNumber = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER), BeforeValidator(_whole)]


class Message(BaseModel):
    """A message on the wire: strict, closed and immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Prepare(Message):
    """Ask a participant to make its branch durable.

    ``instead_of`` names earlier attempts at the same thing: the participant aborts them first.
    ``memo`` is kept with the branch and means nothing to the participant: it is what a log that was
    lost needs to know again.
    """

    transaction_id: TransactionId
    payload: dict[str, Any]
    instead_of: list[TransactionId] = Field(default_factory=list, max_length=16)
    memo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a decision log has come: its generation, and its forced writes as last known."""

    generation: WholeNumber
    counter: int = 0


class Round(Message):
    """One request to one participant: ``aborts``, then ``commits``, then ``prepares``.

    ``log_counter`` is how far the log had come when the round was sent, as far as its sender knows,
    and ``counter_heard`` how far the participant had: a participant that is behind it was restored
    from an older backup, and takes no prepares. Only a participant that counts is sent these, and a
    ``memo``; it says that it counts in the answer to a round with nothing in it.
    """

    version: WholeNumber = PROTOCOL_VERSION
    generation: WholeNumber = Field(ge=1, le=MAX_INTEGER)
    log_counter: Count | None = None
    counter_heard: Count = 0
    aborts: list[TransactionId] = Field(default_factory=list, max_length=ROUND_DECISIONS_MAX)
    commits: list[TransactionId] = Field(default_factory=list, max_length=ROUND_DECISIONS_MAX)
    prepares: list[Prepare] = Field(default_factory=list, max_length=ROUND_PREPARES_MAX)


class Vote(Message):
    """A participant's recorded answer to a prepare; a refusal has a ``reason``, a yes has none."""

    transaction_id: TransactionId
    prepared: bool
    reason: str | None = None
    detail: str | None = None
    contended: bool = False
    facts: dict[str, Any] = Field(default_factory=dict)


class Violation(Message):
    """What a participant would not do, because it contradicts what it has on record."""

    transaction_id: TransactionId
    detail: str


class Ballot(Message):
    """The answer to a round: ``votes`` on prepares, and the decisions that are ``acknowledged``.

    ``counter`` is how many forced rounds the participant has made, with this one; a participant
    that does not count leaves it out. ``log_seen`` is the highest counter of the log that it has
    seen. A participant, and a log, that was restored from an older backup is found by them.
    """

    version: WholeNumber = PROTOCOL_VERSION
    counter: Count | None = None
    log_seen: Count = 0
    votes: list[Vote] = Field(default_factory=list)
    acknowledged: list[TransactionId] = Field(default_factory=list)
    violations: list[Violation] = Field(default_factory=list)


class InDoubt(Message):
    """A prepared branch without a decision, and the generation of the log that began it."""

    transaction_id: TransactionId
    generation: WholeNumber = Field(ge=1, le=MAX_INTEGER)


class Question(Message):
    """A participant's branches in doubt, sent to ``outcomes``, which decides, or to ``peek``.

    ``log_seen`` is the highest counter of the log that it has seen: a log that is behind it answers
    for what it knows alone.
    """

    version: WholeNumber = PROTOCOL_VERSION
    log_seen: Count = 0
    transactions: list[InDoubt] = Field(max_length=ROUND_DECISIONS_MAX)


class Outcomes(Message):
    """The answer to a question; what is in neither list is undecided, or of another log."""

    version: WholeNumber = PROTOCOL_VERSION
    confirmed: list[TransactionId] = Field(default_factory=list)
    cancelled: list[TransactionId] = Field(default_factory=list)
