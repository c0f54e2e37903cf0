"""The internal HTTP endpoints of both sides, each one path; authentication is the business of the app they are mounted in."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from two_phase.branches import BEFORE_ALL
from two_phase.client import (
    BRANCHES_PATH,
    CONSERVATION_PATH,
    COUNTERS_PATH,
    DECISIONS_PATH,
    HOLD_PATH,
    OUTCOMES_PATH,
    PEEK_PATH,
    REBUILD_PATH,
    RESUME_PATH,
    ROUND_PATH,
    STANDING_PATH,
)
from two_phase.decision_log import DecisionLog
from two_phase.participant import Participant
from two_phase.protocol import (
    PROTOCOL_VERSION,
    ROUND_BYTES_MAX,
    Ballot,
    Outcomes,
    ProtocolViolation,
    Question,
    Round,
    State,
    TransactionId,
)
from two_phase.reconciliation import Hold, Lift, Rebuild, Reconciliation, Resume
from two_phase.records import (
    BranchList,
    Conservation,
    CountersRecord,
    DecisionList,
    Done,
    StandingRecord,
    takes,
)
from two_phase.sweep import Run

#: What the document refers to beside the answers.
MESSAGES = (Round, Question, Hold, Lift, Rebuild, Resume)

M = TypeVar("M", Round, Question, Hold, Lift, Rebuild, Resume)

#: What an auditor may look at: branches, whether everything is conserved, decisions with the payloads of their branches.
Records = Callable[[State | None, TransactionId, int], list[dict[str, Any]]]
Conserved = Callable[[], tuple[int, list[dict[str, Any]]]]
Decisions = Callable[[TransactionId, int], Awaitable[list[dict[str, Any]]]]
Limit = Annotated[int, Query(ge=1, le=1000)]


async def _body(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "the body must not be compressed or encoded", {"Accept-Encoding": "identity"})
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > ROUND_BYTES_MAX:
            raise ProtocolViolation(f"a message has at most {ROUND_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


async def _message(request: Request, model: type[M]) -> M:
    try:
        message = model.model_validate_json(await _body(request))
    except ValidationError as error:
        raise ProtocolViolation(f"malformed message: {error.errors(include_url=False, include_input=False)}") from error
    if message.version != PROTOCOL_VERSION:
        raise ProtocolViolation(f"version {message.version} is not spoken here, only {PROTOCOL_VERSION}")
    return message


def _answer(body: BaseModel) -> Response:
    # Who does not know of counters has not asked for them, and takes no message with members that it does not know.
    unasked = {"counter", "log_seen"} if isinstance(body, Ballot) and body.counter is None else None
    return Response(body.model_dump_json(exclude=unasked), media_type="application/json")


def _written(body: dict[str, Any]) -> Response:
    return Response(to_json(body), media_type="application/json")


def _of(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return what a document says of the only answer that is one."""
    return {200: {"model": model, "description": (model.__doc__ or "").partition("\n")[0]}}


def rounds(
    participant: Participant[Any, Any], run: Run[Any] = asyncio.to_thread
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that takes rounds."""

    async def round_(request: Request) -> Response:
        """Apply aborts, commits and prepares, in this order; answer with votes and acknowledgements."""
        message = await _message(request, Round)
        return _answer(await run(lambda: participant.round(message)))

    return round_


def participant_routes(
    participant: Participant[Any, Any],
    records: Records | None = None,
    conservation: Conserved | None = None,
    run: Run[Any] = asyncio.to_thread,
) -> APIRouter:
    """Return the endpoints of a participant: rounds in, ballots out, and what an auditor may look at."""
    router = APIRouter()
    router.post(ROUND_PATH, name="take_round", responses=_of(Ballot), openapi_extra=takes(Round))(rounds(participant, run))

    @router.get(BRANCHES_PATH, responses=_of(BranchList))
    async def list_branches(state: State | None = None, limit: Limit = 100, after: TransactionId = BEFORE_ALL) -> Response:
        """List branches, all or those in one ``state``, by id, beginning behind ``after``."""
        assert records
        return _written({"items": await run(lambda: records(state, after, limit))})

    @router.get(CONSERVATION_PATH, responses=_of(Conservation))
    async def check_conservation() -> Response:
        """Compare, in one snapshot, what was put in with what is available and what branches have taken."""
        assert conservation
        checked, broken = await run(conservation)
        return _written({"checked": checked, "broken": broken})

    @router.get(COUNTERS_PATH, responses=_of(CountersRecord))
    async def show_counters() -> Response:
        """Tell how many forced rounds there were, and how far the log was seen."""
        return _written(asdict(await run(participant.store.counters)))

    @router.post(COUNTERS_PATH, responses=_of(CountersRecord), openapi_extra=takes(Lift))
    async def lift_counter(request: Request) -> Response:
        """Lift the counter, when everything that an older backup had lost is back."""
        wanted = await _message(request, Lift)
        return _written(asdict(await run(lambda: participant.store.lift(wanted.counter))))

    return router


def coordinator_routes(
    decision_log: DecisionLog, decisions: Decisions | None = None, reconciliation: Reconciliation | None = None
) -> APIRouter:
    """Return the endpoints of a coordinator: ``outcomes`` decides what is unknown, ``peek`` never writes."""
    router = APIRouter()

    @router.post(OUTCOMES_PATH, responses=_of(Outcomes), openapi_extra=takes(Question))
    async def decide_outcomes(request: Request) -> Response:
        """Tell the decisions on the transactions asked about; an unknown one is cancelled first."""
        question = await _message(request, Question)
        return _answer(await decision_log.outcomes(question.transactions, question.log_seen))

    @router.post(PEEK_PATH, responses=_of(Outcomes), openapi_extra=takes(Question))
    async def peek_outcomes(request: Request) -> Response:
        """Tell the decisions that are recorded by now."""
        question = await _message(request, Question)
        return _answer(await decision_log.peek(question.transactions, question.log_seen))

    @router.get(DECISIONS_PATH, responses=_of(DecisionList))
    async def list_decisions(limit: Limit = 100, after: TransactionId = BEFORE_ALL) -> Response:
        """List decisions by id, beginning behind ``after``, each with what its branches must hold."""
        assert decisions
        return _written({"items": await decisions(after, limit)})

    if reconciliation:
        _add_reconciliation(router, reconciliation)
    return router


def _add_reconciliation(router: APIRouter, reconciliation: Reconciliation) -> None:
    @router.get(STANDING_PATH, responses=_of(StandingRecord))
    async def show_standing() -> Response:
        """Tell how far the log has come, and who waits to be reconciled."""
        stands = asdict(await reconciliation.standing())
        return _written({**stands, "restored": sorted(stands["restored"])})

    @router.post(HOLD_PATH, responses=_of(Done), openapi_extra=takes(Hold))
    async def hold_participants(request: Request) -> Response:
        """Ask these participants for no votes until they are reconciled."""
        await reconciliation.hold((await _message(request, Hold)).restored)
        return _written({})

    @router.post(REBUILD_PATH, responses=_of(Outcomes), openapi_extra=takes(Rebuild))
    async def rebuild_decisions(request: Request) -> Response:
        """Write lost decisions again; what the answer leaves out cannot be told from its branches."""
        return _answer(await reconciliation.rebuild((await _message(request, Rebuild)).lost))

    @router.post(RESUME_PATH, responses=_of(Done), openapi_extra=takes(Resume))
    async def resume_orders(request: Request) -> Response:
        """Let orders flow again."""
        wanted = await _message(request, Resume)
        await reconciliation.resume(wanted.log_counter, wanted.reconciled)
        return _written({})
