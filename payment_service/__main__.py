"""Run payment_service: python -m payment_service."""

from payment_service.main import create_service
from service_chassis.server import serve
from service_chassis.settings import ParticipantSettings

serve(ParticipantSettings, create_service)
