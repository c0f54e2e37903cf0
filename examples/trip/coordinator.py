"""Takes trips, has them decided, and shows them."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Header, Response
from pydantic import BaseModel

from examples.trip.tables import LOG
from service_chassis import problems
from service_chassis.web import internal_app
from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.idempotency import Answered, Claims, KeyRequest, Keys, digest_of
from two_phase.coordinator.limits import Limits
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.verdict import Transaction
from two_phase.coordinator.waiting import Waiting, key_was_lost
from two_phase.http.coordinator_api import coordinator_routes
from two_phase.messages import Decision, new_transaction_id

SECONDS = 5
CODES = {"confirmed": 201, "cancelled": 409, "pending": 202}


class Wishes(BaseModel, extra="forbid"):
    traveller: str
    flight: dict
    hotel: dict
    car: dict = {}


def row_of(verdict):
    wishes, request = verdict.transaction.record
    refusals = {name: vote.detail for name, vote in verdict.refusals.items()}
    row = {"traveller": wishes.traveller, "wishes": wishes.model_dump(), "refusals": refusals}
    if verdict.decision is Decision.CONFIRMED or refusals:
        row |= {"idempotency_key": request.key, "request_digest": request.digest}
    return row


def trips(engine, executor, transports, key):
    log = SqlDecisionLog(engine, executor, LOG, row_of, opened=False)
    remotes = [RemoteParticipant(name, each) for name, each in transports.items()]
    coordinator = Coordinator(remotes, log, Limits())
    keys = Keys(Claims(log, claim_seconds=SECONDS), coordinator.arriving)
    waiting, app = Waiting(coordinator), FastAPI()
    problems.install(app)

    @app.post("/trips")
    async def book(wishes: Wishes, response: Response, idempotency_key: Annotated[str, Header()]):
        deadline = asyncio.get_running_loop().time() + SECONDS
        digest = digest_of(wishes.model_dump())
        request = KeyRequest(wishes.traveller, idempotency_key, digest, new_transaction_id())

        async def attempt(request, instead_of):
            payloads, record = wishes.model_dump(include=set(transports)), (wishes, request)
            transaction = Transaction(request.transaction_id, payloads, instead_of, record)
            outcome = await waiting.decided(transaction, deadline)
            return None if key_was_lost(outcome) else Answered(request.transaction_id)

        answered = await keys.answer(request, attempt, deadline)
        trip = await log.row(answered.transaction_id) or {"status": "pending"}
        response.status_code = CODES[trip["status"]]
        shown = {name: trip.get(name) for name in ("status", "wishes", "refusals")}
        return {"trip_id": answered.transaction_id, **shown}

    app.mount("/", internal_app("trip", coordinator_routes(log), [key]))
    return app, coordinator
