"""Two-phase commit as it is usually written.

Per order three prepares at once, the decision, three commits, then the answer.

aiohttp carries the calls, because it is the fastest of the usual clients; the decision is one ORM
row. There is no recovery and no time-out handling here: what is measured is the bare cost of the
pattern.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import aiohttp
from fastapi import FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import BigInteger, Text, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from comparisons.order import NewOrder, Placed, placed, total_of

PARTICIPANTS = dict(pair.split("=") for pair in os.environ["PARTICIPANTS"].split(","))


class Base(DeclarativeBase):
    """The coordinator's tables."""


class Order(Base):
    """The decision on one order."""

    __tablename__ = "orders"
    __table_args__ = {"schema": os.environ["SCHEMA"]}  # noqa: RUF012 - SQLAlchemy's own way to say it

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(Text)
    user_id: Mapped[int] = mapped_column(BigInteger)
    slot_id: Mapped[int] = mapped_column(BigInteger)
    items: Mapped[list[dict[str, int]]] = mapped_column(JSONB)
    total: Mapped[int] = mapped_column(BigInteger)


engine = create_engine(
    os.environ["DATABASE_URL"], pool_size=int(os.environ.get("POOL_SIZE", "15")), max_overflow=0
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one HTTP client open while the app runs, with a connection for every call that may be under way."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


async def _tell(participant: str, verb: str, body: dict[str, Any]) -> bool:
    async with app.state.client.post(f"{PARTICIPANTS[participant]}/{verb}", json=body) as response:
        answer = await response.json()
        return response.status == 200 and bool(answer["ok"])


async def _tell_all(verb: str, bodies: dict[str, dict[str, Any]]) -> bool:
    return all(
        await asyncio.gather(
            *(_tell(participant, verb, body) for participant, body in bodies.items())
        )
    )


def _decide(order_id: UUID, order: NewOrder, status: str) -> None:
    with Session(engine) as session, session.begin():
        items = [item.model_dump() for item in order.items]
        session.add(
            Order(
                order_id=order_id,
                status=status,
                user_id=order.user_id,
                slot_id=order.slot_id,
                items=items,
                total=total_of(order),
            )
        )


@app.post("/orders", status_code=201)
async def place(order: NewOrder) -> Placed:
    """Prepare everywhere, decide, commit everywhere."""
    order_id = uuid4()
    (item,) = order.items
    wanted = {
        "payment": {"id": order.user_id, "amount": total_of(order)},
        "stock": {"id": item.product_id, "amount": item.quantity},
        "delivery": {"id": order.slot_id, "amount": 1},
    }
    prepared = await _tell_all(
        "prepare", {name: {"order_id": str(order_id), **body} for name, body in wanted.items()}
    )
    await run_in_threadpool(_decide, order_id, order, "confirmed" if prepared else "cancelled")
    await _tell_all(
        "commit" if prepared else "abort", {name: {"order_id": str(order_id)} for name in wanted}
    )
    if not prepared:
        raise HTTPException(409)
    return placed(order_id, order)
