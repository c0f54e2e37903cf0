"""The OpenAPI documents of the four services, public and internal, as their code makes them.

No process and no database.
"""

from functools import cache
from typing import Any

from fastapi import FastAPI

from delivery_service.main import create_service as delivery
from order_service.main import create_service as order
from order_service.settings import OrderSettings
from payment_service.main import create_service as payment
from service_chassis.server import Service
from service_chassis.settings import ParticipantSettings
from shop import topology
from stock_service.main import create_service as stock

SERVICES = tuple(service.name for service in topology.SERVICES)
_KEY = "k" * 40
_DATABASE = "postgresql+psycopg2://shop@localhost/shop"


@cache
def documents() -> dict[str, dict[str, Any]]:
    """Return the documents by name: ``payment`` and ``payment-internal``."""
    found: dict[str, dict[str, Any]] = {}
    for name in SERVICES:
        service = _service(name)
        for suffix, app in (("", service.public), ("-internal", service.internal)):
            assert isinstance(app, FastAPI)
            found[name + suffix] = app.openapi()
    return found


def _service(name: str) -> Service:
    if name == "order":
        participants = {each: {"urls": "http://localhost", "key": _KEY} for each in SERVICES[1:]}
        return order(OrderSettings(database_url=_DATABASE, participants=participants))
    create = {"payment": payment, "stock": stock, "delivery": delivery}[name]
    return create(
        ParticipantSettings(database_url=_DATABASE, order_urls="http://localhost", order_key=_KEY)
    )
