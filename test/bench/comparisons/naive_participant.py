"""A participant of the naive comparison.

One ORM session per call, which holds the amount and keeps a branch row.
"""

import os
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy import BigInteger, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from comparisons.branch import Answer, Prepare, Settle

PARTICIPANT = os.environ["PARTICIPANT"]
SCHEMA = os.environ["SCHEMA"]


class Base(DeclarativeBase):
    """The participant's tables."""


class Resource(Base):
    """An account, a product or a slot, and how much of it is left."""

    __tablename__ = f"{PARTICIPANT}_resources"
    __table_args__ = {"schema": SCHEMA}  # noqa: RUF012 - SQLAlchemy's own way to say it

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    available: Mapped[int] = mapped_column(BigInteger)


class Branch(Base):
    """What is held for one order."""

    __tablename__ = f"{PARTICIPANT}_branches"
    __table_args__ = {"schema": SCHEMA}  # noqa: RUF012 - SQLAlchemy's own way to say it

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    resource_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)


app = FastAPI()
engine = create_engine(
    os.environ["DATABASE_URL"], pool_size=int(os.environ.get("POOL_SIZE", "15")), max_overflow=0
)


@app.post("/prepare")
def prepare(wanted: Prepare) -> Answer:
    """Hold what is wanted, if there is enough."""
    with Session(engine) as session, session.begin():
        resource = session.get(Resource, wanted.id, with_for_update=True)
        if resource is None or resource.available < wanted.amount:
            return Answer(ok=False)
        resource.available -= wanted.amount
        session.add(
            Branch(
                order_id=wanted.order_id,
                resource_id=wanted.id,
                amount=wanted.amount,
                state="prepared",
            )
        )
    return Answer(ok=True)


@app.post("/commit")
def commit(settled: Settle) -> Answer:
    """Keep what is held."""
    with Session(engine) as session, session.begin():
        branch = session.get_one(Branch, settled.order_id, with_for_update=True)
        branch.state = "committed"
    return Answer(ok=True)


@app.post("/abort")
def abort(settled: Settle) -> Answer:
    """Give back what is held."""
    with Session(engine) as session, session.begin():
        branch = session.get(Branch, settled.order_id, with_for_update=True)
        if branch is not None and branch.state == "prepared":
            branch.state = "aborted"
            session.get_one(
                Resource, branch.resource_id, with_for_update=True
            ).available += branch.amount
    return Answer(ok=True)
