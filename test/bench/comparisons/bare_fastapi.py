"""A FastAPI POST that checks its body and answers, without a database.

What the web framework alone can do.
"""

from uuid import uuid4

from fastapi import FastAPI

from comparisons.order import NewOrder, Placed, placed

app = FastAPI()


@app.post("/orders", status_code=201)
async def place(order: NewOrder) -> Placed:
    """Take an order and forget it."""
    return placed(uuid4(), order)
