"""What a read returns beside what it shows: the branches in doubt that it has met (R10)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from two_phase.messages import InDoubt

T = TypeVar("T")

#: What a read has seen, and the branches in doubt that touch it, both of one snapshot.
Seen = tuple[T, Sequence[InDoubt]]

#: What a statement over branches returns of those in doubt, for ``in_doubt_among``.
DOUBTS = """
    json_agg(json_build_object('transaction_id', transaction_id, 'generation', generation))
"""
_UNDECIDED = text(f"SELECT {DOUBTS} FROM branches WHERE state = 'prepared'")  # noqa: S608 - a constant


def in_doubt_among(doubts: Sequence[Mapping[str, Any]] | None) -> list[InDoubt]:
    """Return the branches that a statement has found by ``DOUBTS``."""
    return [InDoubt(**each) for each in doubts or ()]


def undecided(connection: Connection) -> list[InDoubt]:
    """Return all branches in doubt."""
    return in_doubt_among(connection.execute(_UNDECIDED).scalar_one())
