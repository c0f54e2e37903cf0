"""Run payment_service: python -m payment_service."""

from payment_service.main import create_service
from two_phase.hosting.server import serve
from two_phase.hosting.settings import ParticipantSettings

serve(ParticipantSettings, create_service)
