"""One row by its key: a FastAPI ``def`` endpoint, SQLAlchemy Core and psycopg2."""

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, create_engine, select

accounts = Table(
    "accounts",
    MetaData(schema="bare"),
    Column("user_id", BigInteger, primary_key=True),
    Column("name", Text, nullable=False),
    Column("balance", BigInteger, nullable=False),
)

app = FastAPI()
engine = create_engine(
    os.environ["DATABASE_URL"], pool_size=int(os.environ.get("POOL_SIZE", "20")), max_overflow=0
)


class Account(BaseModel):
    """What is shown."""

    user_id: int
    name: str
    balance: int


@app.get("/accounts/{user_id}")
def show(user_id: int) -> Account:
    """Read a row."""
    with engine.connect() as connection:
        row = connection.execute(
            select(accounts).where(accounts.c.user_id == user_id)
        ).one_or_none()
    if row is None:
        raise HTTPException(404)
    return Account(user_id=row.user_id, name=row.name, balance=row.balance)
