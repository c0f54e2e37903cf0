"""How stock_service is wired."""

from service_chassis.participant_service import participant_service
from service_chassis.server import Service
from service_chassis.settings import ParticipantSettings
from stock_service import products
from stock_service.api import routes
from stock_service.reserve import Reservation, give_back, take


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
