"""Run order_service: python -m order_service."""

from order_service.main import create_service
from two_phase.hosting.server import serve

serve(create_service)
