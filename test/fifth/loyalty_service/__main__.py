"""Run loyalty_service: python -m loyalty_service."""

from loyalty_service.main import create_service
from service_chassis.server import serve
from service_chassis.settings import ParticipantSettings

serve(ParticipantSettings, create_service)
