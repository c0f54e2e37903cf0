"""One row, one commit, no distributed transaction at all.

A FastAPI ``async def`` endpoint on asyncpg.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
from fastapi import FastAPI

from comparisons.order import NewOrder, Placed, placed, total_of

INSERT = (
    "INSERT INTO bare.orders (order_id, user_id, slot_id, items, total) VALUES ($1, $2, $3, $4, $5)"
)
POOL_SIZE = int(os.environ.get("POOL_SIZE", "20"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep a pool open while the app runs; asyncpg prepares and keeps each statement by itself."""
    dsn = os.environ["DATABASE_URL"].replace("postgresql+psycopg2", "postgresql")
    async with asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=201)
async def place(order: NewOrder) -> Placed:
    """Insert an order and commit."""
    order_id = uuid4()
    items = json.dumps([item.model_dump() for item in order.items])
    await app.state.pool.execute(
        INSERT, order_id, order.user_id, order.slot_id, items, total_of(order)
    )
    return placed(order_id, order)
