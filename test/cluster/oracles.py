"""Who says whether the shop kept its promise.

`shop audit` over the internal API, and the laws over the four schemas.
"""

import contextlib
import time

import httpx
from sqlalchemy import URL, create_engine

from cluster.cluster import forwarded, secret
from laws import broken_laws
from shop.operator.audit import audit
from shop.operator.services import Services
from shop.topology import SERVICES

#: Twice `in_doubt_after`, and a recovery pass.
AT_REST_SECONDS = 12


def complaints() -> list[str]:
    """Return what is wrong with the shop now that nothing is under way, by both oracles."""
    secrets = secret()
    return [*_broken_laws(), *_audited(secrets)]


def address(port: int) -> URL:
    """Return how the superuser reaches the database that is forwarded to ``port``."""
    return URL.create(
        "postgresql+psycopg2", "postgres", secret()["postgres-password"], "127.0.0.1", port, "shop"
    )


def _broken_laws() -> list[str]:
    with forwarded("service-postgresql", 5432) as port:
        engine = create_engine(address(port))
        until = time.monotonic() + AT_REST_SECONDS
        while (broken := broken_laws(engine, at_rest=True)) and time.monotonic() < until:
            time.sleep(1)
        engine.dispose()
        return broken


def _audited(secrets: dict[str, str]) -> list[str]:
    names = tuple(service.name for service in SERVICES)
    with contextlib.ExitStack() as ways:
        ports = {
            name: ways.enter_context(forwarded(f"{name}-service-internal", 8001)) for name in names
        }
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        keys = {name: secrets[f"{name}-key"] for name in names[1:]}
        with Services(urls, keys) as services:
            try:
                return audit(services).violations
            except httpx.HTTPError as failure:
                return [f"shop audit got no answer: {failure!r}"]
