"""How order_service is wired.

The coordinator and its participants, the decision log, the checkout, both listeners.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import APIRouter

from order_service.api import MODELS, OrderEndpoints, placing, routes
from order_service.checkout import WORDING, Checkout
from order_service.models import LOG
from order_service.order import decision_of, row_of, row_of_lost
from order_service.settings import OrderSettings
from service_chassis.admission import Admission
from service_chassis.database import connect
from service_chassis.documents import Document
from service_chassis.fast_path import FastPath
from service_chassis.server import Service, Status
from service_chassis.web import internal_app, public_app
from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.idempotency import Claims
from two_phase.coordinator.rebuild import SqlReconciliation
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.errors import Unavailable
from two_phase.http.client import HttpTransport, Peer
from two_phase.http.coordinator_api import coordinator_routes
from two_phase.messages import TransactionId

NAME = "order_service"
DESCRIPTION = "Places orders that take money, goods and a courier: all three or none."
_DOCUMENT = Document(
    NAME, DESCRIPTION, {"orders": "Orders: all of what they need, or nothing."}, MODELS
)


def create_service(settings: OrderSettings) -> Service:
    """Return the service, ready to be served."""
    database = connect(
        settings.database_url, NAME, pool_size=settings.database_pool_size, autocommit=True
    )
    status = Status(database)
    executor = ThreadPoolExecutor(settings.database_pool_size, "decision-log")
    decision_log = SqlDecisionLog(database, executor, LOG, row_of, opened=False)
    peers = _peers(settings)
    coordinator = Coordinator(
        [RemoteParticipant(name, HttpTransport(peer)) for name, peer in peers.items()],
        decision_log,
        settings.limits(),
        WORDING,
    )
    claims = Claims(decision_log, claim_seconds=settings.client_deadline_seconds)
    checkout = Checkout(coordinator, claims, deadline_seconds=settings.client_deadline_seconds)

    endpoints = OrderEndpoints(checkout, decision_log)

    async def close() -> None:
        await asyncio.gather(*(peer.close() for peer in peers.values()))

    def is_ready() -> bool:
        return coordinator.is_open() and status.is_ready()

    return Service(
        name=NAME,
        status=status,
        public=public_app(_DOCUMENT, "", routes(endpoints), is_ready),
        public_fast_path=FastPath("/orders", placing(endpoints)),
        public_admission=_admission(settings),
        internal=internal_app(
            NAME, _asked(decision_log), [each.key for each in settings.participants.values()]
        ),
        background=[coordinator.run],
        drain=coordinator.drain,
        close=close,
        remarks=settings.remarks,
    )


def _admission(settings: OrderSettings) -> Admission:
    # More than a full queue and a batch under way would be refused by the coordinator in any case.
    capacity = settings.queue_limit + settings.batch_limit
    return Admission("/orders", capacity, Unavailable(WORDING.too_many))


def _asked(decision_log: SqlDecisionLog) -> APIRouter:
    """Return the endpoints for participants, auditors and operators."""

    async def decisions(after: TransactionId, limit: int) -> list[dict[str, Any]]:
        return [decision_of(row) for row in await decision_log.decisions(after, limit)]

    reconciliation = SqlReconciliation(decision_log, row_of_lost)
    return coordinator_routes(decision_log, decisions, reconciliation)


def _peers(settings: OrderSettings) -> dict[str, Peer]:
    seconds = settings.prepare_timeout_seconds
    return {
        name: Peer(each.urls, each.key, timeout_seconds=seconds)
        for name, each in settings.participants.items()
    }
