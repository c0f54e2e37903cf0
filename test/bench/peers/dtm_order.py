"""The order endpoint in front of DTM.

Begin, register the three branches, try them at once, submit, answer.

DTM's TCC mode is spoken over its HTTP API, by aiohttp with connections that are kept. DTM confirms
the branches by itself after the answer, as it does for all who do not ask it to wait. The order
itself stands in DTM's own row: it costs no write of its own.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
from comparisons.order import NewOrder, Placed, placed, total_of
from fastapi import FastAPI, HTTPException

PEERS = dict(pair.split("=") for pair in os.environ["PARTICIPANTS"].split(","))
DTM = f"{PEERS.pop('dtm')}/api/dtmsvr"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one HTTP client open while the app runs, with a connection for every call that may be under way."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


async def _succeeds(url: str, body: dict[str, Any], params: dict[str, str] | None = None) -> bool:
    async with app.state.client.post(url, json=body, params=params) as response:
        await response.read()
        return bool(response.status == 200)


async def _tried(gid: str, wanted: dict[str, dict[str, int]]) -> bool:
    """Try the branches at once, each as soon as DTM knows what to confirm or cancel."""
    tries = []
    async with asyncio.TaskGroup() as group:
        # DTM locks the transaction's row to register a branch: to do that at once as well only
        # makes its connections wait.
        for number, (participant, amount) in enumerate(wanted.items(), 1):
            url, branch = (
                PEERS[participant],
                {"gid": gid, "trans_type": "tcc", "branch_id": f"{number:02}"},
            )
            urls = {verb: f"{url}/{verb}" for verb in ("confirm", "cancel")}
            if not await _succeeds(
                f"{DTM}/registerBranch", {**branch, **urls, "data": json.dumps(amount)}
            ):
                return False
            tries.append(
                group.create_task(_succeeds(f"{url}/try", amount, {**branch, "op": "try"}))
            )
    return all(each.result() for each in tries)


@app.post("/orders", status_code=201)
async def place(order: NewOrder) -> Placed:
    """Begin, try everywhere, submit or abort."""
    order_id = uuid4()
    (item,) = order.items
    wanted = {
        "payment": {"id": order.user_id, "amount": total_of(order)},
        "stock": {"id": item.product_id, "amount": item.quantity},
        "delivery": {"id": order.slot_id, "amount": 1},
    }
    transaction = {
        "gid": str(order_id),
        "trans_type": "tcc",
        "custom_data": order.model_dump_json(),
    }
    if not await _succeeds(f"{DTM}/prepare", transaction):
        raise HTTPException(503)
    tried = await _tried(str(order_id), wanted)
    if not await _succeeds(f"{DTM}/{'submit' if tried else 'abort'}", transaction):
        raise HTTPException(503)
    if not tried:
        raise HTTPException(409)
    return placed(order_id, order)
