"""Creations with an Idempotency-Key: the first answer is kept for the same request."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import JSON, Connection, DateTime, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from service_chassis.fields import M, Many
from service_chassis.problems import Invalid

#: The table, for the revision that adds it; never changed any more.
CREATIONS_DDL_1 = """
CREATE TABLE creations (
    idempotency_key text PRIMARY KEY,
    request_digest text NOT NULL,
    answer json,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""

# One that is under way elsewhere with the same key is waited for: it commits its answer, or leaves
# the key to this one.
_CLAIM = text("""
    INSERT INTO creations (idempotency_key, request_digest) VALUES (:key, :digest)
    ON CONFLICT DO NOTHING RETURNING idempotency_key
""")
_EARLIER = text("SELECT request_digest, answer FROM creations WHERE idempotency_key = :key")
_ANSWER = text("UPDATE creations SET answer = CAST(:answer AS json) WHERE idempotency_key = :key")


class CreationColumns:
    """What was created with a key.

    ``answer`` is what the client was told, to be told again for the same key.
    """

    __tablename__ = "creations"

    idempotency_key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_digest: Mapped[str] = mapped_column(Text)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("clock_timestamp()")
    )


def create(
    connection: Connection,
    key: str | None,
    body: M | Many[M],
    make: Callable[[Sequence[M]], list[dict[str, Any]]],
) -> dict[str, Any]:
    """Make the one or the many that ``body`` asks for, or return what ``key`` made before."""

    def made() -> dict[str, Any]:
        return {"items": make(body.items)} if isinstance(body, Many) else make([body])[0]

    return once(connection, key, body, made)


def once(
    connection: Connection,
    key: str | None,
    request: BaseModel,
    create: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Return what ``create`` returns, or what it returned before for ``key``.

    Raises Invalid if that was another request.

    The key, what was created and the answer become durable together, with the caller's transaction.
    """
    if key is None:
        return create()
    digest = hashlib.sha256(request.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    if connection.execute(_CLAIM, {"key": key, "digest": digest}).one_or_none() is None:
        earlier = connection.execute(_EARLIER, {"key": key}).one()
        if earlier.request_digest != digest:
            raise Invalid("Idempotency-Key", "was used before with another body")
        return dict(earlier.answer)
    body = create()
    connection.execute(_ANSWER, {"key": key, "answer": to_json(body).decode()})
    return body
