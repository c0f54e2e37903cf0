"""What loyalty does for an order: takes a point, and gives it back if the order is cancelled."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, text

from two_phase.errors import Refused
from two_phase.messages import Taken, TransactionId

_TAKE = text("UPDATE members SET points = points - 1 WHERE user_id = :user_id AND points > 0")
_GIVE_BACK = text("UPDATE members SET points = points + 1 WHERE user_id = :user_id")
_UNBALANCED = text("""
    SELECT user_id AS id, given AS put_in, points AS available, taken FROM members, LATERAL (
        SELECT count(*) AS taken FROM branches
        WHERE state <> 'aborted' AND CAST(payload->>'user_id' AS bigint) = user_id
    ) AS takings
    WHERE given <> points + taken
""")


class Spending(BaseModel):
    """The member who orders."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_id: int


def take(
    connection: Connection, asked: Sequence[tuple[TransactionId, Spending]]
) -> list[Taken | Refused]:
    """Take a point for each, in the order of arrival."""
    return [
        Taken()
        if connection.execute(_TAKE, {"user_id": each.user_id}).rowcount
        else Refused("no_points", "no points are left")
        for _, each in asked
    ]


def give_back(connection: Connection, taken: Sequence[tuple[TransactionId, Spending]]) -> None:
    """Give the points back."""
    for _, each in taken:
        connection.execute(_GIVE_BACK, {"user_id": each.user_id})


def unbalanced(connection: Connection) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of members, and those whose points do not add up."""
    broken = [dict(row) for row in connection.execute(_UNBALANCED).mappings()]
    return connection.execute(text("SELECT count(*) FROM members")).scalar_one(), broken
