"""The public endpoints of payment_service: users with a balance, deposits, statements."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from payment_service import accounts
from two_phase.hosting.fields import IdempotencyKey, Identifier, Name, Quantity, QuantityOrZero, StrictModel
from two_phase.hosting.paging import Page, decode_cursor
from two_phase.hosting.participant import Desk
from two_phase.hosting.problems import Invalid
from two_phase.hosting.web import StrictRoute

#: A deposit's number or an order's id.
_ENTRY_ID = re.compile(r"[0-9a-f-]{1,36}")
_TOUCHES_USER = "CAST(payload->>'user_id' AS bigint) = :user_id"


class NewUser(StrictModel):
    """A user to open an account for; names need not be unique."""

    name: Name
    balance: QuantityOrZero = 0


class NewDeposit(StrictModel):
    """Money to add."""

    amount: Quantity


def routes(desk: Desk) -> APIRouter:
    """Return the endpoints, which work at ``desk``."""
    router = APIRouter(prefix="/payment/users", route_class=StrictRoute, tags=["users"])

    @router.post("", status_code=201)
    async def open_account(user: NewUser, response: Response) -> dict[str, Any]:
        """Open an account."""
        body = await desk.write(lambda connection: accounts.opened(connection, user.name, user.balance))
        response.headers["Location"] = f"/payment/users/{body['user_id']}"
        return body

    @router.get("/{user_id}")
    async def show_account(user_id: Identifier) -> dict[str, Any]:
        """Show the balance, and what of it undecided orders hold."""
        touched = {"user_id": user_id}
        return await desk.read(lambda connection: accounts.found(connection, user_id), _TOUCHES_USER, touched)

    @router.post("/{user_id}/deposits", status_code=201)
    async def deposit(user_id: Identifier, body: NewDeposit, key: IdempotencyKey) -> dict[str, Any]:
        """Add money; the same Idempotency-Key adds it once."""
        return await desk.write(lambda connection: accounts.deposited(connection, user_id, body.amount, key), user_id)

    @router.get("/{user_id}/statement")
    async def show_statement(user_id: Identifier, page: Annotated[Page, Query()]) -> dict[str, Any]:
        """List deposits and committed payments, the newest first; nothing undecided or cancelled is in it."""
        before = _position(page.cursor)
        touched = {"user_id": user_id}
        return await desk.read(
            lambda connection: accounts.statement(connection, user_id, before, page.limit), _TOUCHES_USER, touched
        )

    return router


def _position(cursor: str | None) -> tuple[datetime, str] | None:
    position = decode_cursor(cursor, str)
    if position is None:
        return None
    at, _, entry_id = position.partition(" ")
    try:
        if _ENTRY_ID.fullmatch(entry_id):
            return datetime.fromisoformat(at).astimezone(UTC), entry_id
    except (ValueError, OverflowError):
        pass
    raise Invalid("cursor", "is not a cursor of this list")
