"""The real participants on PostgreSQL, and short ways to prepare, to open an account and to look at it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from payment_service import accounts, charge
from payment_service.schemas import NewUser
from two_phase.messages import Ballot, Prepare, new_transaction_id
from two_phase.participant.participant import Participant
from two_phase.participant.sql_branches import SqlBranchStore

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def payment(engine: Engine) -> Participant[Connection, charge.Charge]:
    """Return the real payment participant."""
    return Participant(SqlBranchStore(engine), charge.Charge, charge.take, charge.give_back)


def prepares(*payloads: dict[str, Any]) -> list[Prepare]:
    """Return a prepare of a new transaction for each payload."""
    return [Prepare(transaction_id=new_transaction_id(), payload=payload) for payload in payloads]


def yes(ballot: Ballot) -> list[bool]:
    """Return the votes in their order."""
    return [vote.prepared for vote in ballot.votes]


def opened(engine: Engine, balance: int) -> int:
    """Open an account and return its id."""
    with engine.begin() as connection:
        return int(
            accounts.open_accounts(connection, [NewUser(name="Ivan", balance=balance)])[0][
                "user_id"
            ]
        )


def balance_of(engine: Engine, user_id: int) -> dict[str, Any]:
    """Return the account as its owner sees it."""
    with engine.begin() as connection:
        return accounts.shown(connection, user_id)[0]
