"""The internal HTTP endpoints of a participant, each one path.

Authentication is the business of the application that mounts them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from two_phase.coordinator.rebuild import Lift
from two_phase.http.bodies import answers_with, json_response, message_response, read_message
from two_phase.http.coordinator_api import Limit
from two_phase.http.paths import (
    BRANCHES_PATH,
    CONSERVATION_PATH,
    COUNTERS_PATH,
    ROUND_PATH,
)
from two_phase.http.records import BranchList, Conservation, CountersRecord, takes
from two_phase.messages import Ballot, Round, State, TransactionId
from two_phase.participant.branches import BEFORE_ALL
from two_phase.participant.participant import Participant
from two_phase.participant.recovery import Run

#: What an auditor may look at: branches, whether everything is conserved, decisions with the
#: payloads of their branches.
Records = Callable[[State | None, TransactionId, int], list[dict[str, Any]]]
Conserved = Callable[[], tuple[int, list[dict[str, Any]]]]


def rounds(
    participant: Participant[Any, Any], run: Run[Any] = asyncio.to_thread
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that takes rounds."""

    async def round_(request: Request) -> Response:
        """Apply aborts, commits and prepares, in this order; answer with votes."""
        message = await read_message(request, Round)
        return message_response(await run(lambda: participant.round(message)))

    return round_


def participant_routes(
    participant: Participant[Any, Any],
    records: Records | None = None,
    conservation: Conserved | None = None,
    run: Run[Any] = asyncio.to_thread,
) -> APIRouter:
    """Return the endpoints of a participant: rounds, and what an auditor may look at."""
    router = APIRouter()
    router.post(
        ROUND_PATH, name="take_round", responses=answers_with(Ballot), openapi_extra=takes(Round)
    )(rounds(participant, run))

    @router.get(BRANCHES_PATH, responses=answers_with(BranchList))
    async def list_branches(
        state: State | None = None, limit: Limit = 100, after: TransactionId = BEFORE_ALL
    ) -> Response:
        """List branches, all or those in one ``state``, by id, beginning behind ``after``."""
        assert records
        return json_response({"items": await run(lambda: records(state, after, limit))})

    @router.get(CONSERVATION_PATH, responses=answers_with(Conservation))
    async def check_conservation() -> Response:
        """Compare, in one snapshot, what was put in with what is available and what is taken."""
        assert conservation
        checked, broken = await run(conservation)
        return json_response({"checked": checked, "broken": broken})

    @router.get(COUNTERS_PATH, responses=answers_with(CountersRecord))
    async def show_counters() -> Response:
        """Tell how many forced rounds there were, and how far the log was seen."""
        return json_response(asdict(await run(participant.store.counters)))

    @router.post(COUNTERS_PATH, responses=answers_with(CountersRecord), openapi_extra=takes(Lift))
    async def lift_counter(request: Request) -> Response:
        """Lift the counter, when everything that an older backup had lost is back."""
        wanted = await read_message(request, Lift)
        return json_response(asdict(await run(lambda: participant.store.raise_to(wanted.counter))))

    return router
