"""Run order_service: python -m order_service."""

from order_service.main import create_service
from order_service.settings import OrderSettings
from service_chassis.server import serve

serve(OrderSettings, create_service)
