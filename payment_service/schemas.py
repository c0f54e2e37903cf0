"""What payment_service takes and answers, as JSON."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Discriminator, Field, Tag

from service_chassis.fields import (
    Identifier,
    Many,
    Name,
    NamePrefix,
    Quantity,
    QuantityOrZero,
    StrictModel,
    one_or_many,
)
from service_chassis.paging import Cursor, Page
from service_chassis.problems import MANY, ONE

USERS = Cursor("user")
#: A deposit's number or an order's id, behind the microseconds since 1970.
ENTRIES = Cursor("entry", r"[0-9]{1,16}-([0-9]{1,15}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class NewUser(StrictModel):
    """A user to open an account for; names need not be unique."""

    name: Name = Field(examples=["Anna"])
    balance: QuantityOrZero = Field(default=0, examples=[110])


class NewUsers(Many[NewUser]):
    """Many users to open accounts for: all or none."""


Opening = Annotated[
    Annotated[NewUser, Tag(ONE)] | Annotated[NewUsers, Tag(MANY)], Discriminator(one_or_many)
]


class NewDeposit(StrictModel):
    """Money to add."""

    amount: Quantity = Field(examples=[50])


class UserQuery(Page):
    """Which users to list."""

    name: NamePrefix | None = None
    cursor: Annotated[str, USERS] | None = None


class EntryQuery(Page):
    """Which part of a statement to show."""

    cursor: Annotated[str, ENTRIES] | None = None


class Account(BaseModel):
    """A user's money: `balance` is what is `available` and what undecided orders have `held`."""

    user_id: Identifier = Field(examples=[1])
    name: Name = Field(examples=["Anna"])
    balance: QuantityOrZero = Field(examples=[110])
    held: QuantityOrZero = Field(examples=[10])
    available: QuantityOrZero = Field(examples=[100])


class Accounts(BaseModel):
    """Accounts that were opened together."""

    items: list[Account]


class AccountPage(Accounts):
    """A page of accounts."""

    next_cursor: str | None = Field(examples=["user-1"])


class Deposit(BaseModel):
    """A deposit, and the account with it."""

    deposit_id: Identifier = Field(examples=[1])
    user_id: Identifier = Field(examples=[1])
    amount: Quantity = Field(examples=[50])
    balance: QuantityOrZero = Field(examples=[160])
    held: QuantityOrZero = Field(examples=[0])
    available: QuantityOrZero = Field(examples=[160])


class DepositEntry(BaseModel):
    """Money that came in."""

    kind: Literal["deposit"]
    amount: Quantity = Field(examples=[50])
    deposit_id: Identifier = Field(examples=[1])
    at: datetime = Field(examples=["2027-01-15T10:00:00Z"])


class PaymentEntry(BaseModel):
    """Money that an order has taken for good."""

    kind: Literal["payment"]
    amount: QuantityOrZero = Field(examples=[10])
    order_id: UUID = Field(examples=["01a21323-76c1-7835-8de8-84eccdf45daf"])
    at: datetime = Field(examples=["2027-01-15T10:00:00Z"])


class Statement(BaseModel):
    """An account's past, the newest first: opening + deposits - payments = balance."""

    user_id: Identifier = Field(examples=[1])
    balance: QuantityOrZero = Field(examples=[150])
    opening: QuantityOrZero = Field(examples=[110])
    items: list[Annotated[DepositEntry | PaymentEntry, Field(discriminator="kind")]]
    next_cursor: str | None = Field(examples=[None])
