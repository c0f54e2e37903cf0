"""How delivery_service is wired."""

from delivery_service import slots
from delivery_service.api import routes
from delivery_service.book import Booking, give_back, take
from two_phase.hosting.participant import participant_service
from two_phase.hosting.server import Service
from two_phase.hosting.settings import ParticipantSettings


def create_service(settings: ParticipantSettings) -> Service:
    """Return the service, ready to be served."""
    return participant_service(
        settings,
        name="delivery_service",
        prefix="/delivery",
        description="Takes, holds and gives back the couriers of time slots.",
        payload=Booking,
        take=take,
        give_back=give_back,
        conservation=slots.unbalanced,
        routes=routes,
        tags={"slots": "Time slots and their couriers."},
    )
