"""Run delivery_service: python -m delivery_service."""

from delivery_service.main import create_service
from service_chassis.server import serve
from service_chassis.settings import ParticipantSettings

serve(ParticipantSettings, create_service)
