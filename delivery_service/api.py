"""The public endpoints of delivery_service: time slots with couriers."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from delivery_service import slots
from two_phase.hosting.fields import Identifier, Moment, Name, StrictModel
from two_phase.hosting.paging import Page, decode_cursor, next_cursor
from two_phase.hosting.participant import Desk
from two_phase.hosting.problems import Invalid
from two_phase.hosting.web import StrictRoute

COURIERS_MAX = 1000
_TOUCHES_SLOT = "CAST(payload->>'slot_id' AS bigint) = :slot_id"
_ANY = "true"


class NewSlot(StrictModel):
    """A time in the future, and who can bring orders then; each courier brings one."""

    starts_at: Moment
    couriers: list[Name] = Field(max_length=COURIERS_MAX)


def routes(desk: Desk) -> APIRouter:
    """Return the endpoints, which work at ``desk``."""
    router = APIRouter(prefix="/delivery/slots", route_class=StrictRoute, tags=["slots"])

    @router.post("", status_code=201)
    async def open_slot(slot: NewSlot, response: Response) -> dict[str, Any]:
        """Open a slot."""
        if slot.starts_at <= datetime.now(UTC):
            raise Invalid("starts_at", "must be in the future")
        body = await desk.write(lambda connection: slots.opened(connection, slot.starts_at, slot.couriers))
        response.headers["Location"] = f"/delivery/slots/{body['slot_id']}"
        return body

    @router.get("")
    async def list_slots(page: Annotated[Page, Query()]) -> dict[str, Any]:
        """List the slots in the order in which they were opened."""
        after = decode_cursor(page.cursor, int) or 0
        found = list(await desk.read(lambda connection: slots.page(connection, after, page.limit + 1), _ANY, {}))
        return {"items": found[: page.limit], "next_cursor": next_cursor(found, page.limit, "slot_id")}

    @router.get("/{slot_id}")
    async def show_slot(slot_id: Identifier) -> dict[str, Any]:
        """Show a slot, and how many of its couriers undecided orders hold."""
        return await desk.read(lambda connection: slots.found(connection, slot_id), _TOUCHES_SLOT, {"slot_id": slot_id})

    return router
