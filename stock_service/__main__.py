"""Run stock_service: python -m stock_service."""

from stock_service.main import create_service
from two_phase.hosting.server import serve
from two_phase.hosting.settings import ParticipantSettings

serve(ParticipantSettings, create_service)
