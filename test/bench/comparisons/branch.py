"""What the participants of the naive comparisons are asked, and what they answer."""

from uuid import UUID

from pydantic import BaseModel


class Prepare(BaseModel):
    """Take ``amount`` from row ``id`` for an order."""

    order_id: UUID
    id: int
    amount: int


class Settle(BaseModel):
    """Commit or abort the branch of an order."""

    order_id: UUID


class Answer(BaseModel):
    """Yes or no."""

    ok: bool
