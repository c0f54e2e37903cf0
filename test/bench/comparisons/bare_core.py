"""One row, one commit, no distributed transaction at all.

A FastAPI ``def`` endpoint, SQLAlchemy Core and psycopg2.
"""

import os
from uuid import uuid4

from fastapi import FastAPI
from sqlalchemy import BigInteger, Column, MetaData, Table, Uuid, create_engine, insert
from sqlalchemy.dialects.postgresql import JSONB

from comparisons.order import NewOrder, Placed, placed, total_of

orders = Table(
    "orders",
    MetaData(schema="bare"),
    Column("order_id", Uuid, primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("slot_id", BigInteger, nullable=False),
    Column("items", JSONB, nullable=False),
    Column("total", BigInteger, nullable=False),
)

app = FastAPI()
engine = create_engine(
    os.environ["DATABASE_URL"], pool_size=int(os.environ.get("POOL_SIZE", "20")), max_overflow=0
)


@app.post("/orders", status_code=201)
def place(order: NewOrder) -> Placed:
    """Insert an order and commit."""
    order_id = uuid4()
    with engine.begin() as connection:
        connection.execute(
            insert(orders).values(
                order_id=order_id,
                user_id=order.user_id,
                slot_id=order.slot_id,
                items=[item.model_dump() for item in order.items],
                total=total_of(order),
            )
        )
    return placed(order_id, order)
