"""A participant for DTM in its TCC mode.

Try holds an amount, confirm spends it, cancel gives it back; each is one statement.

Each verb first takes its place in DTM's barrier table, as DTM's own clients do, so that a call that
comes twice or out of order does nothing. DTM's clients spend a transaction of four round trips on
that; one statement that does all of it is atomic as well, and a CHECK of the table refuses what
there is not enough of.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

PARTICIPANT = os.environ["PARTICIPANT"]
POOL_SIZE = int(os.environ.get("POOL_SIZE", "10"))

_BARRIER = (
    f"INSERT INTO dtm.{PARTICIPANT}_barrier (trans_type, gid, branch_id, op, barrier_id, reason, create_time, update_time)"
    " VALUES ('tcc', $1, $2, '{op}', '01', '{reason}', now(), now()) ON CONFLICT DO NOTHING RETURNING 1"
)
_FIRST = f"WITH first AS ({_BARRIER}) UPDATE dtm.{PARTICIPANT}_resources SET {{change}} WHERE id = $3 AND EXISTS (TABLE first)"
TRY = _FIRST.format(op="try", reason="try", change="available = available - $4, held = held + $4")
CONFIRM = _FIRST.format(op="confirm", reason="confirm", change="held = held - $4")
# A cancel that finds no try takes the try's place as well, so that the try does nothing when it
# comes late.
CANCEL = (
    f"WITH untried AS ({_BARRIER.format(op='try', reason='cancel')}), first AS ({_BARRIER.format(op='cancel', reason='cancel')})"
    f" UPDATE dtm.{PARTICIPANT}_resources SET available = available + $4, held = held - $4"
    " WHERE id = $3 AND EXISTS (TABLE first) AND NOT EXISTS (TABLE untried)"
)


class Wanted(BaseModel):
    """An amount of what the participant has."""

    id: int
    amount: int


class Branch(BaseModel):
    """What DTM says about a call."""

    gid: str
    branch_id: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep a pool open while the app runs; asyncpg prepares and keeps each statement by itself."""
    dsn = os.environ["DATABASE_URL"].replace("postgresql+psycopg2", "postgresql")
    async with asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


async def _run(statement: str, branch: Branch, wanted: Wanted) -> None:
    await app.state.pool.execute(statement, branch.gid, branch.branch_id, wanted.id, wanted.amount)


@app.post("/try")
async def hold(wanted: Wanted, branch: Annotated[Branch, Query()]) -> JSONResponse:
    """Hold what is wanted, if there is enough."""
    try:
        await _run(TRY, branch, wanted)
    except asyncpg.CheckViolationError:
        return JSONResponse({"dtm_result": "FAILURE"}, 409)
    return JSONResponse({"dtm_result": "SUCCESS"})


@app.post("/confirm")
async def spend(wanted: Wanted, branch: Annotated[Branch, Query()]) -> JSONResponse:
    """Spend what is held."""
    await _run(CONFIRM, branch, wanted)
    return JSONResponse({"dtm_result": "SUCCESS"})


@app.post("/cancel")
async def give_back(wanted: Wanted, branch: Annotated[Branch, Query()]) -> JSONResponse:
    """Give back what is held."""
    await _run(CANCEL, branch, wanted)
    return JSONResponse({"dtm_result": "SUCCESS"})
