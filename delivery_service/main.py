"""How delivery_service is wired."""

from delivery_service import slots
from delivery_service.api import routes
from delivery_service.book import Booking, give_back, take
from service_chassis.participant_service import participant_service
from service_chassis.server import Service
from service_chassis.settings import ParticipantSettings


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
