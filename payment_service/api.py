"""The public endpoints of payment_service: users with a balance, deposits, statements."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from payment_service import accounts
from payment_service.schemas import (
    USERS,
    Account,
    AccountPage,
    Accounts,
    Deposit,
    EntryQuery,
    NewDeposit,
    Opening,
    Statement,
    UserQuery,
)
from service_chassis.creations import create
from service_chassis.documents import answer, creation, problem
from service_chassis.fields import IdempotencyKey, Identifier
from service_chassis.participant_service import Database
from service_chassis.problems import answered, created
from service_chassis.web import StrictRoute, takes_lists

_FULL = problem(409, says="The balance would pass what an account holds.", kind="limit_exceeded")


def routes(database: Database) -> APIRouter:
    """Return the endpoints, which work at ``database``."""
    router = APIRouter(prefix="/payment/users", route_class=StrictRoute, tags=["users"])

    @router.post("", status_code=201, responses=creation(Account, Accounts))
    @takes_lists
    async def open_account(body: Opening, key: IdempotencyKey) -> Response:
        """Open an account, or up to 1,000 at once; the same Idempotency-Key opens them once."""
        made = await database.write(
            lambda connection: create(
                connection, key, body, lambda users: accounts.open_accounts(connection, users)
            ),
            key,
        )
        return created(made, "/payment/users", "user_id")

    @router.get("", responses={200: answer(AccountPage, "A page of accounts.")})
    async def list_accounts(query: Annotated[UserQuery, Query()]) -> Response:
        """List accounts in the order in which they were opened, all or those whose name begins with `name`."""
        after = int(query.cursor or 0)
        found = await database.read(
            lambda connection: accounts.page(connection, query.name, after, query.limit + 1),
            several=True,
        )
        return answered(
            {
                "items": found[: query.limit],
                "next_cursor": USERS.behind(found, query.limit, "user_id"),
            }
        )

    @router.get("/{user_id}", responses={200: answer(Account, "The account."), 404: problem(404)})
    async def show_account(user_id: Identifier) -> Response:
        """Show the balance, and what of it undecided orders hold."""
        return answered(
            await database.read(lambda connection: accounts.shown(connection, user_id), user_id)
        )

    @router.post(
        "/{user_id}/deposits",
        status_code=201,
        responses={201: answer(Deposit, "It is there."), 404: problem(404), 409: _FULL},
    )
    async def add_deposit(user_id: Identifier, body: NewDeposit, key: IdempotencyKey) -> Response:
        """Add money; the same Idempotency-Key adds it once."""
        return created(
            await database.write(
                lambda connection: accounts.deposit(connection, user_id, body.amount, key), user_id
            )
        )

    @router.get(
        "/{user_id}/statement",
        responses={200: answer(Statement, "A page of it."), 404: problem(404)},
    )
    async def show_statement(
        user_id: Identifier, query: Annotated[EntryQuery, Query()]
    ) -> Response:
        """List deposits and committed payments, the newest first.

        Nothing undecided or cancelled is in it.
        """
        return answered(
            await database.read(
                lambda connection: accounts.statement(
                    connection, user_id, query.cursor, query.limit
                ),
                user_id,
                several=True,
            )
        )

    return router
