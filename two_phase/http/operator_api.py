"""The internal endpoints by which an operator's tool rebuilds a log from an older backup."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from two_phase.coordinator.rebuild import Hold, Rebuild, Reconciliation, Resume
from two_phase.http.bodies import answers_with, json_response, message_response, read_message
from two_phase.http.paths import (
    HOLD_PATH,
    REBUILD_PATH,
    RESUME_PATH,
    STANDING_PATH,
)
from two_phase.http.records import Done, StandingRecord, takes
from two_phase.messages import Outcomes


def add_operator_routes(router: APIRouter, reconciliation: Reconciliation) -> None:
    """Add to ``router`` what an operator asks of a log that is to be rebuilt."""

    @router.get(STANDING_PATH, responses=answers_with(StandingRecord))
    async def show_standing() -> Response:
        """Tell how far the log has come, and who waits to be reconciled."""
        status = await reconciliation.status()
        return json_response(
            {
                "generation": status.generation,
                "written": status.log_position,
                "heard": status.round_counts,
                "restored": sorted(status.restored),
            }
        )

    @router.post(HOLD_PATH, responses=answers_with(Done), openapi_extra=takes(Hold))
    async def hold_participants(request: Request) -> Response:
        """Ask these participants for no votes until they are reconciled."""
        await reconciliation.hold((await read_message(request, Hold)).restored)
        return json_response({})

    @router.post(REBUILD_PATH, responses=answers_with(Outcomes), openapi_extra=takes(Rebuild))
    async def rebuild_decisions(request: Request) -> Response:
        """Write lost decisions again.

        What the answer leaves out cannot be told from its branches.
        """
        return message_response(
            await reconciliation.rebuild((await read_message(request, Rebuild)).lost)
        )

    @router.post(RESUME_PATH, responses=answers_with(Done), openapi_extra=takes(Resume))
    async def resume_orders(request: Request) -> Response:
        """Let transactions flow again."""
        wanted = await read_message(request, Resume)
        await reconciliation.resume(wanted.log_counter, wanted.reconciled)
        return json_response({})
