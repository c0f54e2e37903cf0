"""The accounts themselves: opened, filled, looked at."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, text

from payment_service.charge import held
from payment_service.models import Account
from payment_service.schemas import ENTRIES, NewUser
from service_chassis.problems import Invalid, NotFound, Problem
from two_phase.messages import MAX_INTEGER
from two_phase.participant.reads import DOUBTS, Seen, in_doubt_among, undecided
from two_phase.sql import Planned

_OPEN = insert(Account).returning(
    Account.user_id, Account.name, Account.available, sort_by_parameter_order=True
)
# Asked for by every customer who waits for an order: the account and the branches in doubt that
# touch it in one statement, so that a snapshot and a connection serve for both.
_SHOW = Planned(f"""
    SELECT user_id, name, available, opening, held, doubts FROM accounts, (
        SELECT coalesce(CAST(sum(CAST(payload->>'amount' AS bigint)) AS bigint), 0) AS held, {DOUBTS} AS doubts
        FROM branches WHERE state = 'prepared' AND CAST(payload->>'user_id' AS bigint) = CAST(:user_id AS bigint)
    ) AS undecided
    WHERE user_id = CAST(:user_id AS bigint)
""")  # noqa: S608 - a constant
_LOCK = text(
    "SELECT user_id, name, available, opening FROM accounts WHERE user_id = :user_id FOR UPDATE"
)
_ADD = text(
    "UPDATE accounts SET available = available + :amount, deposited = deposited + :amount WHERE user_id = :user_id"
)
_DEPOSIT = text("""
    INSERT INTO deposits (deposit_id, user_id, amount, idempotency_key, answer)
    VALUES (:deposit_id, :user_id, :amount, :key, jsonb_build_object(
        'deposit_id', :deposit_id, 'user_id', :user_id, 'amount', :amount,
        'balance', CAST(:balance AS bigint), 'held', CAST(:held AS bigint), 'available', CAST(:available AS bigint)))
    RETURNING answer
""")
_NEXT_DEPOSIT = text("SELECT nextval(pg_get_serial_sequence('deposits', 'deposit_id'))")
_EARLIER = text(
    "SELECT amount, answer FROM deposits WHERE user_id = :user_id AND idempotency_key = :key"
)
_STATEMENT = text("""
    SELECT kind, amount, id, at FROM (
        SELECT 'deposit' AS kind, amount, CAST(deposit_id AS text) AS id, at FROM deposits WHERE user_id = :user_id
        UNION ALL
        SELECT 'payment', CAST(payload->>'amount' AS bigint), CAST(transaction_id AS text), settled_at FROM branches
        WHERE state = 'committed' AND CAST(payload->>'user_id' AS bigint) = :user_id
    ) AS entries
    WHERE (at, id) < (CAST(:at AS timestamptz), :id)
    ORDER BY at DESC, id DESC LIMIT :limit
""")
_UNBALANCED = text("""
    SELECT user_id AS id, opening + deposited AS put_in, available, coalesce(taken, 0) AS taken FROM accounts
    LEFT JOIN (
        SELECT CAST(payload->>'user_id' AS bigint) AS user_id, CAST(sum(CAST(payload->>'amount' AS bigint)) AS bigint) AS taken
        FROM branches WHERE state <> 'aborted' GROUP BY 1
    ) AS takings USING (user_id)
    WHERE opening + deposited <> available + coalesce(taken, 0)
       OR deposited <> (SELECT coalesce(sum(amount), 0) FROM deposits WHERE deposits.user_id = accounts.user_id)
""")
_COUNT = text("SELECT count(*) FROM accounts")
_BEGINNING, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_END = (datetime.max.replace(tzinfo=UTC), "")

Body = dict[str, Any]


class _Shown(NamedTuple):
    user_id: int
    name: str
    available: int
    opening: int
    held: int
    doubts: Sequence[dict[str, Any]] | None


def open_accounts(connection: Connection, users: Sequence[NewUser]) -> list[Body]:
    """Open an account for each and return them, in this order."""
    rows = [
        {"name": user.name, "opening": user.balance, "available": user.balance} for user in users
    ]
    return [_body(row, 0) for row in connection.execute(_OPEN, rows)]


def page(connection: Connection, name: str | None, after: int, limit: int) -> Seen[list[Body]]:
    """Return up to ``limit`` accounts behind the id ``after``, whose names begin with ``name`` if one is given."""
    accounts = select(Account.user_id, Account.name, Account.available).where(
        Account.user_id > after
    )
    if name is not None:
        accounts = accounts.where(Account.name.startswith(name, autoescape=True))
    rows = connection.execute(accounts.order_by(Account.user_id).limit(limit)).all()
    on_hold = held(connection, {row.user_id for row in rows})
    return [_body(row, on_hold.get(row.user_id, 0)) for row in rows], undecided(connection)


def shown(connection: Connection, user_id: int) -> Seen[Body]:
    """Return the account; raises NotFound."""
    account = _shown(connection, user_id)
    return _body(account, account.held), in_doubt_among(account.doubts)


def deposit(connection: Connection, user_id: int, amount: int, key: str | None) -> Body:
    """Add a deposit and return it, or what the same key was told before.

    Raises NotFound or Invalid.
    """
    row = connection.execute(_LOCK, {"user_id": user_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no user {user_id}")
    earlier = connection.execute(_EARLIER, {"user_id": user_id, "key": key}).one_or_none()
    if earlier is not None:
        if earlier.amount != amount:
            raise Invalid("Idempotency-Key", "was used before with another body")
        return dict(earlier.answer)
    on_hold = held(connection, {user_id}).get(user_id, 0)
    available = row.available + amount
    if available + on_hold > MAX_INTEGER:
        raise Problem(409, f"would lift the balance above {MAX_INTEGER}", kind="limit_exceeded")
    connection.execute(_ADD, {"user_id": user_id, "amount": amount})
    parameters = {
        "deposit_id": connection.execute(_NEXT_DEPOSIT).scalar_one(),
        "user_id": user_id,
        "amount": amount,
        "key": key,
        "balance": available + on_hold,
        "held": on_hold,
        "available": available,
    }
    return dict(connection.execute(_DEPOSIT, parameters).scalar_one())


def statement(connection: Connection, user_id: int, before: str | None, limit: int) -> Seen[Body]:
    """Return the account's deposits and committed payments behind ``before``, the newest first.

    Raises NotFound.
    """
    account = _shown(connection, user_id)
    at, entry_id = _position(before) if before else _END
    parameters = {"user_id": user_id, "at": at, "id": entry_id, "limit": limit + 1}
    rows = connection.execute(_STATEMENT, parameters).all()
    more = len(rows) > limit
    body = {
        "user_id": user_id,
        "balance": account.available + account.held,
        "opening": account.opening,
        "items": [_entry(row) for row in rows[:limit]],
        "next_cursor": ENTRIES.write(_position_of(rows[limit - 1])) if more else None,
    }
    return body, in_doubt_among(account.doubts)


def unbalanced(connection: Connection) -> tuple[int, list[Body]]:
    """Return the number of accounts, and those where opening + deposits differ from available + taken."""
    broken = [dict(row) for row in connection.execute(_UNBALANCED).mappings()]
    return connection.execute(_COUNT).scalar_one(), broken


def _shown(connection: Connection, user_id: int) -> _Shown:
    rows = _SHOW.rows(connection, {"user_id": user_id})
    if not rows:
        raise NotFound(f"there is no user {user_id}")
    return _Shown(*rows[0])


def _body(row: Any, on_hold: int) -> Body:
    return {
        "user_id": row.user_id,
        "name": row.name,
        "balance": row.available + on_hold,
        "held": on_hold,
        "available": row.available,
    }


def _position_of(row: Any) -> str:
    return f"{(row.at - _BEGINNING) // _MICROSECOND}-{row.id}"


def _position(text_: str) -> tuple[datetime, str]:
    microseconds, _, entry_id = text_.partition("-")
    return _BEGINNING + int(microseconds) * _MICROSECOND, entry_id


def _entry(row: Any) -> Body:
    name, value = ("deposit_id", int(row.id)) if row.kind == "deposit" else ("order_id", row.id)
    return {
        "kind": row.kind,
        "amount": row.amount,
        name: value,
        "at": row.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
