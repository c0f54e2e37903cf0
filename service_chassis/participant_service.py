"""Everything that makes a payload model and two functions a running participant.

A service hands in what it takes and how it gives it back, and gets rounds, votes, recovery,
recovery, reads that see every decision told, health and metrics. Its own public endpoints use
``Database``.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Connection, Engine, QueuePool, text

from service_chassis.database import connect, repeated
from service_chassis.documents import Document
from service_chassis.fast_path import FastPath
from service_chassis.server import Service, Status
from service_chassis.settings import ParticipantSettings
from service_chassis.turns import Together, Turns
from service_chassis.web import KeyHolders, internal_app, public_app
from two_phase.errors import Unavailable
from two_phase.http.client import HttpCoordinator, Peer
from two_phase.http.participant_api import participant_routes, rounds
from two_phase.http.paths import ROUND_PATH
from two_phase.messages import InDoubt
from two_phase.metrics import watch_in_doubt
from two_phase.participant.participant import GiveBack, Participant, Take
from two_phase.participant.reads import Seen
from two_phase.participant.recovery import Recovery
from two_phase.participant.sql_branches import SqlBranchStore

log = logging.getLogger(__name__)

T = TypeVar("T")
#: So long a request waits for its turn at a row.
TURN_TIMEOUT_SECONDS = 5.0
#: How many resources were looked at, and those in which something got lost or was made up.
Conserved = tuple[int, list[dict[str, Any]]]
P = TypeVar("P", bound=BaseModel)


class Database:
    """How a participant's public endpoints reach its database: each call is one local transaction.

    Reads have threads of their own, half as many as the pool has connections: no crowd of them
    keeps a round waiting, and few threads of Python do more than many.
    """

    def __init__(self, engine: Engine, recovery: Recovery) -> None:
        self.engine = engine
        self.recovery = recovery
        self._turns = Turns(timeout_seconds=TURN_TIMEOUT_SECONDS)
        self._peek = Together(self._peeked)
        pool = engine.pool
        assert isinstance(pool, QueuePool)
        self._readers = ThreadPoolExecutor(pool.size() // 2, "reads")

    async def write(self, work: Callable[[Connection], T], row: Hashable = None) -> T:
        """Run ``work`` in a transaction that is durable when this returns.

        It is run again when nothing was written.

        ``row`` is the one that it locks: work on one row takes turns. Raises Unavailable when
        others keep it for too long.
        """

        def committed() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        async with self._turns.at(row) if row is not None else nullcontext():
            return await asyncio.to_thread(lambda: repeated(committed))

    async def read(
        self,
        look: Callable[[Connection], Seen[T]],
        resource: Hashable = None,
        *,
        several: bool = False,
    ) -> T:
        """Return what ``look`` sees with every decision applied that was told before (R10).

        Reads of one ``resource`` that have to ask, ask together. With ``several`` all statements of
        ``look`` have the same snapshot. Raises Unavailable when it meets a branch in doubt and the
        coordinator cannot be asked.
        """
        engine = self.engine
        if several:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")

        def looked() -> Seen[T]:
            with engine.connect() as connection:
                return look(connection)

        loop = asyncio.get_running_loop()
        seen, question = await loop.run_in_executor(self._readers, looked)
        # What is not decided by now was not when it was seen.
        if question and await self._ask(resource, question):
            seen, _ = await loop.run_in_executor(self._readers, looked)
        return seen

    async def _ask(self, resource: Hashable, question: Sequence[InDoubt]) -> bool:
        try:
            return await self._peek(resource, question)
        except Unavailable as failure:
            log.warning(
                "a read could not ask about a branch in doubt", extra={"why": failure.detail}
            )
            raise Unavailable(
                "an order that matters here is in doubt, and its decision cannot be asked for now"
            ) from failure

    async def _peeked(self, questions: Sequence[Sequence[InDoubt]]) -> bool:
        every = {each.transaction_id: each for question in questions for each in question}
        return await self.recovery.peek(list(every.values()))


def participant_service(
    settings: ParticipantSettings,
    *,
    name: str,
    prefix: str,
    description: str,
    payload: type[P],
    take: Take[Connection, P],
    give_back: GiveBack[Connection, P],
    conservation: Callable[[Connection], Conserved],
    routes: Callable[[Database], APIRouter],
    tags: Mapping[str, str],
) -> Service:
    """Return a service called ``name``, whose public paths begin with ``prefix``."""
    engine = connect(settings.database_url, name, pool_size=settings.database_pool_size)
    status = Status(engine)
    store = SqlBranchStore(engine)
    participant = Participant(store, payload, take, give_back)
    peer = Peer(
        settings.order_urls, settings.order_key, timeout_seconds=settings.question_timeout_seconds
    )
    recovery = _recovery(settings, participant, peer)
    watch_in_doubt(store.in_doubt_summary)
    document = Document(name, description, tags)
    own_routes = routes(Database(engine, recovery))
    internal_routes = participant_routes(
        participant, store.records, _conserved(engine, conservation)
    )
    keys = [settings.order_key]
    return Service(
        name=name,
        status=status,
        public=public_app(document, prefix, own_routes, status.is_ready),
        internal=internal_app(name, internal_routes, keys),
        internal_fast_path=FastPath(ROUND_PATH, KeyHolders(keys).only(rounds(participant))),
        background=[recovery.run],
        close=peer.close,
    )


def _recovery(
    settings: ParticipantSettings, participant: Participant[Connection, P], peer: Peer
) -> Recovery:
    return Recovery(
        participant,
        HttpCoordinator(peer),
        in_doubt_after_seconds=settings.in_doubt_after_seconds,
        interval_seconds=settings.sweep_interval_seconds,
    )


def _conserved(
    engine: Engine, conservation: Callable[[Connection], Conserved]
) -> Callable[[], Conserved]:
    def conserved() -> Conserved:
        with engine.connect() as connection:
            # Looks at every row, which may take longer than a request may.
            connection.execute(
                text("SET LOCAL statement_timeout = '10min'; SET LOCAL enable_seqscan = on")
            )
            return conservation(connection)

    return conserved
