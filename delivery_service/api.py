"""The public endpoints of delivery_service: time slots with couriers."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from delivery_service import slots
from delivery_service.schemas import SLOTS, NewSlots, Opening, Slot, SlotPage, SlotQuery, Slots
from service_chassis.creations import create
from service_chassis.documents import answer, creation, problem
from service_chassis.fields import IdempotencyKey, Identifier
from service_chassis.participant_service import Database
from service_chassis.problems import answered, created
from service_chassis.web import StrictRoute, takes_lists


def routes(database: Database) -> APIRouter:
    """Return the endpoints, which work at ``database``."""
    router = APIRouter(prefix="/delivery/slots", route_class=StrictRoute, tags=["slots"])

    @router.post("", status_code=201, responses=creation(Slot, Slots))
    @takes_lists
    async def open_slot(body: Opening, key: IdempotencyKey) -> Response:
        """Open a slot, or up to 1,000 at once; the same Idempotency-Key opens them once."""
        many = isinstance(body, NewSlots)
        made = await database.write(
            lambda connection: create(
                connection, key, body, lambda new: slots.open_slots(connection, new, many=many)
            ),
            key,
        )
        return created(made, "/delivery/slots", "slot_id")

    @router.get("", responses={200: answer(SlotPage, "A page of slots.")})
    async def list_slots(query: Annotated[SlotQuery, Query()]) -> Response:
        """List the slots in the order in which they were opened."""
        after = int(query.cursor or 0)
        found = await database.read(
            lambda connection: slots.page(connection, after, query.limit + 1), several=True
        )
        return answered(
            {
                "items": found[: query.limit],
                "next_cursor": SLOTS.behind(found, query.limit, "slot_id"),
            }
        )

    @router.get("/{slot_id}", responses={200: answer(Slot, "The slot."), 404: problem(404)})
    async def show_slot(slot_id: Identifier) -> Response:
        """Show a slot, and how many of its couriers undecided orders hold."""
        return answered(
            await database.read(lambda connection: slots.shown(connection, slot_id), slot_id)
        )

    return router
