"""One process of the trip: ``python -m examples.trip coordinator`` (or flight, hotel, car).

The environment names the database, the key that all share, and the port of each process.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import uvicorn
from pydantic import SecretStr
from sqlalchemy import text

from examples.trip import tables
from examples.trip.coordinator import trips
from service_chassis.database import connect
from service_chassis.web import internal_app
from two_phase.http.client import HttpCoordinator, HttpTransport, Peer
from two_phase.http.participant_api import participant_routes
from two_phase.participant.participant import Participant
from two_phase.participant.recovery import Recovery
from two_phase.participant.sql_branches import BRANCHES_DDL_1, BRANCHES_DDL_2, SqlBranchStore

PARTICIPANTS = ("flight", "hotel", "car")
URL = SecretStr(os.environ["DATABASE_URL"])
KEY = SecretStr(os.environ["TRIP_KEY"])


def create_tables(name):
    """Create the schema of a process, and what stands in it."""
    engine = connect(URL, name, pool_size=2)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
        getattr(tables, name.capitalize()).metadata.create_all(connection)
        if name in PARTICIPANTS:
            connection.execute(text(BRANCHES_DDL_1 + BRANCHES_DDL_2))
    engine.dispose()


def address(name):
    """Return where a process listens."""
    return f"http://127.0.0.1:{os.environ[f'{name.upper()}_PORT']}"


def peer(name):
    """Return a process as another one reaches it."""
    return Peer([address(name)], KEY, timeout_seconds=2)


def participant(name):
    """Return a participant's application, and its work in the background."""
    trade = import_module(f"examples.trip.{name}")
    store = SqlBranchStore(connect(URL, name, pool_size=4))
    branches = Participant(store, trade.Payload, trade.take, trade.give_back)
    app = internal_app(name, participant_routes(branches, store.records), [KEY])
    return app, Recovery(branches, HttpCoordinator(peer("coordinator")))


def coordinator():
    """Return the coordinator's application, and its work in the background."""
    engine = connect(URL, "coordinator", pool_size=4, autocommit=True)
    transports = {name: HttpTransport(peer(name)) for name in PARTICIPANTS}
    return trips(engine, ThreadPoolExecutor(4), transports, KEY)


async def serve(name):
    """Serve until the process is stopped."""
    app, work = coordinator() if name == "coordinator" else participant(name)
    port = int(os.environ[f"{name.upper()}_PORT"])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    working = asyncio.create_task(work.run())
    await server.serve()
    working.cancel()


if __name__ == "__main__":
    create_tables(sys.argv[2]) if sys.argv[1] == "create" else asyncio.run(serve(sys.argv[1]))
