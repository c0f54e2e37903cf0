"""How stock_service is wired."""

from stock_service import products
from stock_service.api import routes
from stock_service.reserve import Reservation, give_back, take
from two_phase.hosting.participant import participant_service
from two_phase.hosting.server import Service
from two_phase.hosting.settings import ParticipantSettings


def create_service(settings: ParticipantSettings) -> Service:
    """Return the service, ready to be served."""
    return participant_service(
        settings,
        name="stock_service",
        prefix="/stock",
        description="Takes, holds and gives back products. Prices are integers in the smallest currency unit.",
        payload=Reservation,
        take=take,
        give_back=give_back,
        conservation=products.unbalanced,
        routes=routes,
        tags={"products": "Products, their prices and quantities."},
    )
