"""How payment_service is wired."""

from payment_service import accounts
from payment_service.api import routes
from payment_service.charge import Charge, give_back, take
from service_chassis.participant_service import participant_service
from service_chassis.server import Service
from service_chassis.settings import ParticipantSettings


def create_service(settings: ParticipantSettings) -> Service:
    """Return the service, ready to be served."""
    return participant_service(
        settings,
        name="payment_service",
        prefix="/payment",
        description="Takes, holds and gives back the customers' money. Amounts are integers in the smallest currency unit.",
        payload=Charge,
        take=take,
        give_back=give_back,
        conservation=accounts.unbalanced,
        routes=routes,
        tags={"users": "Users, their money, deposits and statements."},
    )
