"""What payment does for an order.

Takes its amount from an account, and gives it back if the order is cancelled.
"""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from two_phase.errors import Refused
from two_phase.messages import Taken, TransactionId
from two_phase.sql import Planned, bigint_array


class Charge(BaseModel):
    """Money asked from one account."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    user_id: int
    amount: int = Field(ge=0)


_LOCK = Planned("""
    SELECT user_id, available FROM accounts WHERE user_id = ANY (CAST(:ids AS bigint[])) ORDER BY user_id FOR UPDATE
""")
_MOVE = Planned("""
    UPDATE accounts SET available = available - moved.amount
    FROM unnest(CAST(:ids AS bigint[]), CAST(:amounts AS bigint[])) AS moved (user_id, amount)
    WHERE accounts.user_id = moved.user_id
""")
_HELD = text("""
    SELECT CAST(payload->>'user_id' AS bigint) AS user_id, sum(CAST(payload->>'amount' AS bigint)) AS held
    FROM branches
    WHERE state = 'prepared' AND CAST(payload->>'user_id' AS bigint) = ANY (CAST(:ids AS bigint[]))
    GROUP BY 1
""")


def take(
    connection: Connection, asked: Sequence[tuple[TransactionId, Charge]]
) -> list[Taken | Refused]:
    """Take each amount in the order of arrival.

    One that does not fit does not block a smaller one behind it.
    """
    available = _locked(connection, {charge.user_id for _, charge in asked})
    taken: Counter[int] = Counter()
    verdicts: list[Taken | Refused] = []
    for _, charge in asked:
        if charge.user_id not in available:
            verdicts.append(Refused("unknown_user", f"there is no user {charge.user_id}"))
        elif charge.amount > available[charge.user_id] - taken[charge.user_id]:
            verdicts.append(
                Refused(
                    "insufficient_funds", f"user {charge.user_id} has less than {charge.amount}"
                )
            )
        else:
            taken[charge.user_id] += charge.amount
            verdicts.append(Taken())
    _move(connection, taken)
    _mark_contended(connection, asked, verdicts, available)
    return verdicts


def give_back(connection: Connection, taken: Sequence[tuple[TransactionId, Charge]]) -> None:
    """Give each amount back to its account."""
    amounts: Counter[int] = Counter()
    for _, charge in taken:
        amounts[charge.user_id] -= charge.amount
    _locked(connection, set(amounts))
    _move(connection, amounts)


def held(connection: Connection, user_ids: set[int]) -> dict[int, int]:
    """Return what undecided orders hold of each account that has any."""
    return {
        row.user_id: int(row.held)
        for row in connection.execute(_HELD, {"ids": bigint_array(user_ids)})
    }


def _locked(connection: Connection, user_ids: set[int]) -> dict[int, int]:
    return dict(_LOCK.rows(connection, {"ids": bigint_array(user_ids)}))


def _move(connection: Connection, amounts: Counter[int]) -> None:
    moved = {user_id: amount for user_id, amount in amounts.items() if amount}
    if moved:
        _MOVE.rows(
            connection, {"ids": bigint_array(moved), "amounts": bigint_array(moved.values())}
        )


def _mark_contended(
    connection: Connection,
    asked: Sequence[tuple[TransactionId, Charge]],
    verdicts: Sequence[Taken | Refused],
    available: dict[int, int],
) -> None:
    """Say of each refusal whether the money is there and only undecided orders hold it (R9)."""
    short = [
        (charge, verdict)
        for (_, charge), verdict in zip(asked, verdicts, strict=True)
        if isinstance(verdict, Refused) and verdict.reason == "insufficient_funds"
    ]
    if not short:
        return
    before = held(connection, {charge.user_id for charge, _ in short})
    for charge, refusal in short:
        refusal.contended = charge.amount <= available[charge.user_id] + before.get(
            charge.user_id, 0
        )
