"""Run delivery_service: python -m delivery_service."""

from delivery_service.main import create_service
from two_phase.hosting.server import serve
from two_phase.hosting.settings import ParticipantSettings

serve(ParticipantSettings, create_service)
