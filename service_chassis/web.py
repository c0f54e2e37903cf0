"""The public and the internal web application of a service, alike in all of them."""

import hmac
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, SecretStr
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from service_chassis import problems
from service_chassis.documents import MESSAGE, Document, answer, document, problem
from service_chassis.fast_path import Endpoint
from service_chassis.json_body import BODY_BYTES_MAX, LIST_BYTES_MAX, read_json
from service_chassis.logs import metrics_routes
from two_phase.http.bodies import MESSAGES

VERSION = "0.1.0"

F = TypeVar("F", bound=Callable[..., Any])


class HeadLikeGet:
    """Lets an application answer HEAD as it answers GET.

    The server sends the same headers, and no body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, as a GET if it is a HEAD."""
        await self._app(
            {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send
        )


class OneOfEachParameter:
    """Refuses a query that names a parameter twice: either could be meant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or answer 422."""
        app = self._app
        if b"&" in scope.get("query_string", b""):
            names = [name for name, _ in QueryParams(scope["query_string"]).multi_items()]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                app = problems.Invalid(twice, "must not be given twice").response()
        await app(scope, receive, send)


def takes_lists(endpoint: F) -> F:
    """Let the body of ``endpoint`` be as large as one that holds many items."""
    endpoint.body_bytes_max = LIST_BYTES_MAX  # type: ignore[attr-defined] # read by StrictRoute
    return endpoint


class _ParsedRequest(Request):
    parsed: Any = None

    async def json(self) -> Any:
        return self.parsed

    async def body(self) -> bytes:
        return b"parsed"


class StrictRoute(APIRoute):
    """A route whose JSON body is read by ``read_json`` before FastAPI checks what it means."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's own handler, behind the strict reading of the body."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler
        limit = getattr(self.endpoint, "body_bytes_max", BODY_BYTES_MAX)

        async def strict(request: Request) -> Response:
            parsed = _ParsedRequest(request.scope, request.receive)
            parsed.parsed = await read_json(request, limit)
            return await handler(parsed)

        return strict


def public_app(
    about: Document, prefix: str, routes: APIRouter, is_ready: Callable[[], bool]
) -> FastAPI:
    """Return the public application; its documentation and health are under ``prefix``."""
    app = FastAPI(
        title=about.title,
        version=VERSION,
        docs_url=f"{prefix}/docs",
        redoc_url=None,
        openapi_url=f"{prefix}/openapi.json",
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(OneOfEachParameter)
    app.add_middleware(HeadLikeGet)
    app.include_router(_health_routes(prefix, is_ready))
    app.include_router(routes)
    document(
        app,
        replace(
            about, tags={**about.tags, "health": "Whether the service runs, and takes requests."}
        ),
    )
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


class Live(BaseModel):
    """The process runs."""

    status: Literal["live"]


class Ready(BaseModel):
    """Requests are welcome."""

    status: Literal["ready"]


def _health_routes(prefix: str, is_ready: Callable[[], bool]) -> APIRouter:
    router = APIRouter(prefix=f"{prefix}/health", tags=["health"])

    @router.get("/live", responses={200: answer(Live, "The process runs.")})
    async def show_live() -> Response:
        """Tell that the process runs."""
        return problems.answered({"status": "live"})

    not_ready = problem(
        503, says="The service is starting, stopping, or without its database.", kind="not_ready"
    )

    @router.get("/ready", responses={200: answer(Ready, "Requests are welcome."), 503: not_ready})
    def show_ready() -> Response:
        """Tell whether requests are welcome.

        The schema is there, the database answers, and the service is not stopping.
        """
        if is_ready():
            return problems.answered({"status": "ready"})
        return problems.problem(
            503,
            "not_ready",
            "the service is starting, stopping, or without its database",
            headers={"Retry-After": "1"},
        )

    return router


class KeyHolders:
    """Those who have one of ``keys``: the only ones who are let in on the internal port."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._accepted = [f"Bearer {key.get_secret_value()}".encode() for key in keys]

    def check(self, request: Request) -> None:
        """Raise Problem 401 unless the caller is one of them."""
        given = request.headers.get("authorization", "").encode()
        # All are compared, and each in constant time: nothing can be learnt by measuring.
        if not sum(hmac.compare_digest(given, each) for each in self._accepted):
            raise problems.Problem(
                401, "the pair's shared key is needed", headers={"WWW-Authenticate": "Bearer"}
            )

    def only(self, endpoint: Endpoint) -> Endpoint:
        """Return ``endpoint`` for them alone."""

        async def checked(request: Request) -> Response:
            self.check(request)
            return await endpoint(request)

        return checked


_INTERNAL_TAGS = {
    "two-phase": "The protocol between services, and what an auditor or operator asks.",
    "metrics": "Figures for Prometheus.",
}


def internal_app(name: str, routes: APIRouter, keys: Sequence[SecretStr]) -> ASGIApp:
    """Return the internal application: the protocol, for callers with one of ``keys``; metrics."""
    app = FastAPI(
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(OneOfEachParameter)
    app.add_middleware(HeadLikeGet)
    app.include_router(metrics_routes())
    app.include_router(routes, dependencies=[Depends(KeyHolders(keys).check)], tags=["two-phase"])
    says = "What the services say to each other; no ingress leads here."
    document(
        app, Document(f"{name}, internal", says, _INTERNAL_TAGS, MESSAGES, bodies=MESSAGE, key=True)
    )
    return app
