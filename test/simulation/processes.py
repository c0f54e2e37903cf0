"""How the real code is wired into a simulated process.

What ``main`` and the routers of the services do, without HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from order_service import orders
from order_service.checkout import (
    Answer,
    Checkout,
    Confirmed,
    OrderRefused,
    OrderRequest,
    Repeated,
)
from order_service.models import LOG
from order_service.order import row_of
from simulation.clock import Life
from simulation.customers import NOTHING, Told
from simulation.escrow import TRADES
from simulation.network import Peer, SimulatedCoordinator, SimulatedTransport
from simulation.plan import SERVICES
from simulation.store import MemoryBranchStore
from two_phase.coordinator.coordinator import Coordinator
from two_phase.coordinator.idempotency import Claims, KeyBusy, KeyReused
from two_phase.coordinator.limits import Limits
from two_phase.coordinator.remote_participant import RemoteParticipant
from two_phase.coordinator.sql_decision_log import SqlDecisionLog
from two_phase.coordinator.ticket import Ticket
from two_phase.coordinator.verdict import Transaction
from two_phase.coordinator.waiting import NotDecided, Pending
from two_phase.errors import Unavailable
from two_phase.messages import Outcomes, Question, Round
from two_phase.participant.branches import Collision
from two_phase.participant.participant import Participant
from two_phase.participant.recovery import Recovery

if TYPE_CHECKING:
    from simulation.world import World

CLIENT_DEADLINE_SECONDS = 5.0
PREPARE_SECONDS = 2.0
RECOVERY_SECONDS = 2.0

Reply = Callable[[Any], None]


class _WatchedCoordinator(Coordinator):
    watch: Callable[[Transaction], None]

    def submit(self, transaction: Transaction) -> Ticket:
        self.watch(transaction)
        return super().submit(transaction)


def boot_coordinator(world: "World", life: Life) -> None:
    """Start a replica of order_service."""
    log: Any = SqlDecisionLog(world.sessions, world.sessions, LOG, row_of, opened=False)  # type: ignore[arg-type] # what it uses of both is there
    participants = [
        RemoteParticipant(
            service, SimulatedTransport(_peer(world, life, service), world.laws.round_leaves)
        )
        for service in SERVICES
    ]
    world.laws.participants[life] = participants
    world.laws.logs[life] = log
    # Where a log may be restored, nobody is let off telling how far he has seen it.
    startup_grace_seconds = 1e9 if world.plan.restored else 10.0
    coordinator = _WatchedCoordinator(
        participants,
        log,
        Limits(prepare_seconds=PREPARE_SECONDS, startup_grace_seconds=startup_grace_seconds),
    )
    coordinator.watch = partial(world.laws.begins, life)
    claims = Claims(log, claim_seconds=CLIENT_DEADLINE_SECONDS)
    checkout = Checkout(
        coordinator, claims, deadline_seconds=CLIENT_DEADLINE_SECONDS, new_id=new_id_of(world)
    )

    def place(order_request: OrderRequest, reply: Reply) -> None:
        _serve(world, lambda: _placed(world, checkout, log, order_request), reply)

    def outcomes(body: str, reply: Reply) -> None:
        _serve(world, lambda: _answered(world, log.outcomes, body), reply)

    def peek(body: str, reply: Reply) -> None:
        _serve(world, lambda: _answered(world, log.peek, body), reply)

    life.verbs = {"place": place, "outcomes": outcomes, "peek": peek}
    asyncio.get_running_loop().create_task(_endless(world, life, coordinator.run()))


def boot_participant(world: "World", life: Life) -> None:
    """Start a replica of a participant."""
    service = life.service
    payload, take, give_back = TRADES[service]
    store = MemoryBranchStore(
        world.disks[service], world.fate, world.loop.time, lambda: world.database_dies(service)
    )
    participant: Participant[Any, Any] = Participant(store, payload, take, give_back)
    coordinator = SimulatedCoordinator(_peer(world, life, "order"))
    recovery = Recovery(
        participant,
        coordinator,
        _at_once,
        in_doubt_after_seconds=world.plan.in_doubt_after_seconds,
        interval_seconds=RECOVERY_SECONDS,
    )

    def round_(body: str, reply: Reply) -> None:
        reply(_round(world, service, participant, body))

    def show(_nothing: None, reply: Reply) -> None:
        _serve(world, lambda: _shown(world, service, store, recovery), reply)

    life.verbs = {"round": round_, "show": show}
    if not world.plan.without_recovery:
        asyncio.get_running_loop().create_task(_endless(world, life, recovery.run()))


def new_id_of(world: "World") -> Callable[[], str]:
    """Return a source of transaction ids, UUIDv7 in the order of time, that the seed decides."""

    def new_id() -> str:
        milliseconds, bits = int(world.loop.now * 1000), world.dice.getrandbits(74)
        digits = f"{milliseconds:012x}7{bits >> 62:03x}{0x8 | (bits >> 60) & 0x3:x}{bits & (1 << 60) - 1:015x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return new_id


def _peer(world: "World", life: Life, service: str) -> Peer:
    return Peer(world.network, life.name, world.service_of(service), PREPARE_SECONDS)


async def _at_once(work: Callable[[], Any]) -> Any:
    return work()


async def _endless(world: "World", life: Life, work: Any) -> None:
    """Do background work; if it ends, the process does too, and is started again."""
    try:
        await work
    except DBAPIError:
        world.kill(life, 0.5)
    except Exception as error:
        world.laws.broke("no_surprises", f"{life.name} ended with {error!r}")
        world.kill(life, 0.5)


def _serve(world: "World", work: Callable[[], Awaitable[Any]], reply: Reply) -> None:
    async def served() -> None:
        try:
            value = await work()
        except Unavailable as error:
            reply(error)
        except DBAPIError:
            reply(Unavailable("the database does not answer"))
        except Exception as error:
            world.laws.broke("no_surprises", f"a request failed with {error!r}")
            reply(Unavailable("it broke"))
        else:
            reply(value if isinstance(value, Told | dict) else value.model_dump_json())

    asyncio.get_running_loop().create_task(served())


def _round(world: "World", service: str, participant: Participant[Any, Any], body: str) -> Any:
    try:
        ballot = participant.round(Round.model_validate_json(body))
    except (Unavailable, Collision) as error:
        return Unavailable(str(error))
    except Exception as error:
        world.laws.broke("no_surprises", f"a round at {service} failed with {error!r}")
        return Unavailable("it broke")
    for violation in ballot.violations:
        if service in world.laws.restored:
            continue
        world.laws.broke(
            "violation_reported", f"{service}: {violation.detail} {violation.transaction_id}"
        )
    world.laws.ballot_leaves(service, ballot)
    return ballot.model_dump_json()


async def _answered(
    world: "World", ask: Callable[[Any, int], Awaitable[Outcomes]], body: str
) -> Outcomes:
    question = Question.model_validate_json(body)
    outcomes = await ask(question.transactions, question.log_seen)
    world.laws.outcomes_leave(outcomes)
    return outcomes


async def _shown(
    world: "World", service: str, store: MemoryBranchStore, recovery: Recovery
) -> dict[str, Any]:
    """Return every branch as a GET would show it (R10)."""
    disk = world.disks[service]
    deaths = disk.deaths
    question = store.touching()
    if question:
        await recovery.peek(question)
    if disk.down or deaths != disk.deaths:
        raise Unavailable("the connection is lost")
    return {each: row.branch for each, row in disk.tables["branches"].items()}


async def _placed(
    world: "World", checkout: Checkout, log: SqlDecisionLog, order_request: OrderRequest
) -> Told:
    try:
        answer = await checkout.place(order_request)
    except KeyReused:
        return Told(422, None)
    except NotDecided as failure:
        return Told(503, failure.transaction_id)
    except KeyBusy:
        return Told(503, None)
    try:
        told = await _told(world, log, answer)
    except Unavailable:
        return NOTHING
    world.laws.about_to_tell(order_request, told)
    return told


async def _told(world: "World", log: SqlDecisionLog, answer: Answer) -> Told:
    match answer:
        case Confirmed(order_id, record, courier):
            assert record.total is not None
            assert courier
            return Told(201, order_id)
        case OrderRefused(order_id, _):
            return Told(409, order_id)
        case Pending(order_id):
            return Told(202, order_id)
        case Repeated(order_id):
            body = await log.run(lambda connection: orders.find(connection, order_id))
            if body is None:
                assert "order" in world.laws.restored, "an answer that holds a key is never deleted"
                raise Unavailable("the decision log was restored")
            return Told(201 if body["status"] == "confirmed" else 409, order_id)
