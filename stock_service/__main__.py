"""Run stock_service: python -m stock_service."""

from service_chassis.server import serve
from service_chassis.settings import ParticipantSettings
from stock_service.main import create_service

serve(ParticipantSettings, create_service)
