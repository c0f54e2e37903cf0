"""The internal HTTP endpoints of a coordinator, each one path.

Authentication is the business of the application that mounts them.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from two_phase.coordinator.decision_log import DecisionLog
from two_phase.coordinator.rebuild import Reconciliation
from two_phase.http.bodies import answers_with, json_response, message_response, read_message
from two_phase.http.operator_api import add_operator_routes
from two_phase.http.paths import DECISIONS_PATH, OUTCOMES_PATH, PEEK_PATH
from two_phase.http.records import DecisionList, takes
from two_phase.messages import Outcomes, Question, TransactionId
from two_phase.participant.branches import BEFORE_ALL

Decisions = Callable[[TransactionId, int], Awaitable[list[dict[str, Any]]]]


Limit = Annotated[int, Query(ge=1, le=1000)]


def coordinator_routes(
    decision_log: DecisionLog,
    decisions: Decisions | None = None,
    reconciliation: Reconciliation | None = None,
) -> APIRouter:
    """Return the endpoints of a coordinator.

    ``outcomes`` decides what is unknown, ``peek`` never writes.
    """
    router = APIRouter()

    @router.post(OUTCOMES_PATH, responses=answers_with(Outcomes), openapi_extra=takes(Question))
    async def decide_outcomes(request: Request) -> Response:
        """Tell the decisions on the transactions asked about; an unknown one is cancelled first."""
        question = await read_message(request, Question)
        return message_response(
            await decision_log.outcomes(question.transactions, question.log_seen)
        )

    @router.post(PEEK_PATH, responses=answers_with(Outcomes), openapi_extra=takes(Question))
    async def peek_outcomes(request: Request) -> Response:
        """Tell the decisions that are recorded by now."""
        question = await read_message(request, Question)
        return message_response(await decision_log.peek(question.transactions, question.log_seen))

    @router.get(DECISIONS_PATH, responses=answers_with(DecisionList))
    async def list_decisions(limit: Limit = 100, after: TransactionId = BEFORE_ALL) -> Response:
        """List decisions by id, from behind ``after``, with what their branches must hold."""
        assert decisions
        return json_response({"items": await decisions(after, limit)})

    if reconciliation:
        add_operator_routes(router, reconciliation)
    return router
