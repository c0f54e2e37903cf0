"""The internal HTTP endpoints of both sides, each one path; authentication is the business of the app they are mounted in."""

import asyncio
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from two_phase.branches import BEFORE_ALL
from two_phase.client import BRANCHES_PATH, OUTCOMES_PATH, PEEK_PATH, ROUND_PATH
from two_phase.decision_log import DecisionLog
from two_phase.participant import Participant
from two_phase.protocol import PROTOCOL_VERSION, ProtocolViolation, Question, Round, TransactionId
from two_phase.sweep import Run

M = TypeVar("M", Round, Question)


async def _message(request: Request, model: type[M]) -> M:
    try:
        message = model.model_validate_json(await request.body())
    except ValidationError as error:
        raise ProtocolViolation(f"malformed message: {error.errors(include_url=False, include_input=False)}") from error
    if message.version != PROTOCOL_VERSION:
        raise ProtocolViolation(f"version {message.version} is not spoken here, only {PROTOCOL_VERSION}")
    return message


def _answer(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")


def participant_routes(participant: Participant[Any, Any], run: Run[Any] = asyncio.to_thread) -> APIRouter:
    """Return the endpoints of a participant: rounds in, ballots out, and the branches in doubt for who must know."""
    router = APIRouter()

    @router.post(ROUND_PATH)
    async def round_(request: Request) -> Response:
        """Apply aborts, commits and prepares, in this order; answer with votes and acknowledgements."""
        message = await _message(request, Round)
        return _answer(await run(lambda: participant.round(message)))

    @router.get(BRANCHES_PATH)
    async def branches(
        state: Literal["prepared"] = "prepared",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: TransactionId = BEFORE_ALL,
    ) -> dict[str, object]:
        """List branches in doubt by id, beginning behind ``after``."""
        found = await run(lambda: participant.store.in_doubt(0, limit, after))
        return {"state": state, "items": [each.model_dump() for each in found]}

    return router


def coordinator_routes(decision_log: DecisionLog) -> APIRouter:
    """Return the endpoints of a coordinator: ``outcomes`` decides what is unknown, ``peek`` never writes."""
    router = APIRouter()

    @router.post(OUTCOMES_PATH)
    async def outcomes(request: Request) -> Response:
        """Tell the decisions on the transactions asked about; an unknown one is cancelled first."""
        question = await _message(request, Question)
        return _answer(await decision_log.outcomes(question.transactions))

    @router.post(PEEK_PATH)
    async def peek(request: Request) -> Response:
        """Tell the decisions that are recorded by now."""
        question = await _message(request, Question)
        return _answer(await decision_log.peek(question.transactions))

    return router
