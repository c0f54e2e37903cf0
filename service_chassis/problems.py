"""Everything that can go wrong, as it reaches a client.

``application/problem+json`` (RFC 9457), mapped in this file alone.

Refused            a vote, told by the service that asked for it     409
Unavailable        no answer now, safe to repeat                     503, Retry-After
ProtocolViolation  somebody broke the protocol                       400
Problem            anything that the request itself got wrong        4xx
"""

import http
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_chassis.database import DATABASE_FAILURES, unavailable
from two_phase.errors import ProtocolViolation, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

KINDS = {
    400: "malformed",
    401: "unauthenticated",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    500: "internal",
    503: "unavailable",
}


class Problem(Exception):
    """A request that cannot be answered as it stands.

    ``members`` are extra members of the problem's body.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind or KINDS.get(status, "error")
        self.headers = headers
        self.members = members

    def response(self) -> Response:
        """Return the problem as a response."""
        return problem(self.status, self.kind, self.detail, headers=self.headers, **self.members)


class NotFound(Problem):
    """What the path names does not exist."""

    def __init__(self, detail: str) -> None:
        super().__init__(404, detail)


class Invalid(Problem):
    """One field of the request breaks a rule."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(422, f"{field}: {message}", errors=[{"field": field, "message": message}])


def problem(
    status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Return a problem; ``kind`` is the last part of its type's URN."""
    body = {
        "type": f"urn:shop:problem:{kind}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    return Response(as_json(body), status, dict(headers or {}), media_type=MEDIA_TYPE)


def as_json(body: Any) -> bytes:
    """Return ``body`` as every answer writes it: UTF-8 without spaces."""
    try:
        return to_json(body)
    except PydanticSerializationError:
        # A lone surrogate, which a caller's own word may have, is no UTF-8 and can only be escaped.
        return json.dumps(body, separators=(",", ":")).encode()


def answered(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON, past the framework's check of what was made here."""
    return Response(as_json(body), status, headers, media_type="application/json")


def created(body: Mapping[str, Any], path: str = "", key: str = "") -> Response:
    """Return a 201; its Location is ``path`` and the body's ``key``, if it is one thing."""
    return answered(body, 201, {"Location": f"{path}/{body[key]}"} if key in body else None)


def unavailable_problem(failure: Unavailable, **members: Any) -> Response:
    """Return 503, and when to come again."""
    headers = {"Retry-After": str(failure.retry_after_seconds)}
    return problem(503, "unavailable", failure.detail, headers=headers, **members)


def invalid(errors: Sequence[Any]) -> Problem:
    """Return a 422 that names each field and its rule, from pydantic's errors."""
    fields = [{"field": _field(error["loc"]), "message": _sentence(error)} for error in errors]
    return Problem(
        422, "; ".join(f"{each['field']}: {each['message']}" for each in fields[:5]), errors=fields
    )


#: How errors name which of two bodies was read; no field has such a name.
ONE, MANY = "one of them", "many of them"
#: What pydantic and the framework put before or between the names of fields.
_NO_FIELDS = ("body", "query", "path", "header", ONE, MANY)


def _field(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location if part not in _NO_FIELDS]
    return ".".join(parts) or "body"


def _sentence(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def install(app: FastAPI) -> None:
    """Make ``app`` answer every failure with a problem."""

    async def told(request: Request, error: Exception) -> Response:
        response = answer(error)
        if response.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
            # The framework names the methods of the first route that has this path, where there may
            # be several.
            response.headers["Allow"] = ", ".join(_allowed_methods(request))
        return response

    for kind in (
        Problem,
        Unavailable,
        ProtocolViolation,
        HTTPException,
        RequestValidationError,
        ValidationError,
        *DATABASE_FAILURES,
    ):
        app.add_exception_handler(kind, told)
    app.add_middleware(_Surprises)


class _Surprises:
    """The application ``app``, whose connections go on after a failure that nothing else expects.

    The framework's own handler of such failures raises them again, so that the server closes the
    connection under a client that was not told.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        has_begun = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            if has_begun:
                raise
            await answer(error)(scope, receive, send)


def _allowed_methods(request: Request) -> list[str]:
    def has(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    methods = [method for method in ("GET", "POST", "PATCH") if has(method)]
    return ["HEAD", *methods] if "GET" in methods else methods


def answer(error: Exception) -> Response:  # noqa: PLR0911 - one line of a table each
    """Return the problem that ``error`` is to a client."""
    match error:
        case Problem():
            return error.response()
        case Unavailable():
            return unavailable_problem(error)
        case ProtocolViolation():
            log.error("protocol violation: %s", error.detail)
            return problem(400, "protocol_violation", error.detail)
        case RequestValidationError():
            return invalid(error.errors()).response()
        case ValidationError():
            return invalid(error.errors(include_url=False, include_input=False)).response()
        case HTTPException():
            kind = KINDS.get(error.status_code, "error")
            return problem(error.status_code, kind, str(error.detail), headers=error.headers)
    if isinstance(error, DATABASE_FAILURES):
        return unavailable_problem(unavailable(error))
    log.error("a request failed", exc_info=error)
    return problem(500, "internal", "this should not have happened; it is logged")
