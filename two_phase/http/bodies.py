"""Reading a message from a request, and writing one as an answer."""

from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from two_phase.coordinator.rebuild import Hold, Lift, Rebuild, Resume
from two_phase.errors import ProtocolViolation
from two_phase.messages import PROTOCOL_VERSION, ROUND_BYTES_MAX, Ballot, Question, Round

#: What the document refers to beside the answers.
MESSAGES = (Round, Question, Hold, Lift, Rebuild, Resume)


M = TypeVar("M", Round, Question, Hold, Lift, Rebuild, Resume)


async def _body(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(
            415, "the body must not be compressed or encoded", {"Accept-Encoding": "identity"}
        )
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > ROUND_BYTES_MAX:
            raise ProtocolViolation(f"a message has at most {ROUND_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


async def read_message(request: Request, model: type[M]) -> M:
    """Return the message in the body.

    Raises ProtocolViolation for one that is malformed or of another version.
    """
    try:
        message = model.model_validate_json(await _body(request))
    except ValidationError as error:
        raise ProtocolViolation(
            f"malformed message: {error.errors(include_url=False, include_input=False)}"
        ) from error
    if message.version != PROTOCOL_VERSION:
        raise ProtocolViolation(
            f"version {message.version} is not spoken here, only {PROTOCOL_VERSION}"
        )
    return message


def message_response(body: BaseModel) -> Response:
    """Return a message as the answer; counters are left out for a peer that does not count."""
    # Who does not know of counters has not asked for them, and takes no message with members that
    # it does not know.
    unasked = {"counter", "log_seen"} if isinstance(body, Ballot) and body.counter is None else None
    return Response(body.model_dump_json(exclude=unasked), media_type="application/json")


def json_response(body: dict[str, Any]) -> Response:
    """Return a body of plain JSON as the answer."""
    return Response(to_json(body), media_type="application/json")


def answers_with(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return what a document says of the only answer that is one."""
    return {200: {"model": model, "description": (model.__doc__ or "").partition("\n")[0]}}
