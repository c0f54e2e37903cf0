"""The public and the internal web application of a service, alike in all of them."""

import hmac
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from two_phase.hosting import problems
from two_phase.hosting.fast_path import Endpoint
from two_phase.hosting.json_body import read_json
from two_phase.hosting.observability import metrics_routes

VERSION = "0.1.0"


class HeadLikeGet:
    """Lets an application answer HEAD as it answers GET; the server sends the same headers, and no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, as a GET if it is a HEAD."""
        await self._app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)


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

        async def strict(request: Request) -> Response:
            parsed = _ParsedRequest(request.scope, request.receive)
            parsed.parsed = await read_json(request)
            return await handler(parsed)

        return strict


def public_app(title: str, description: str, prefix: str, routes: APIRouter, is_ready: Callable[[], bool]) -> FastAPI:
    """Return the application that the ingress reaches, with its documentation and its health under ``prefix``."""
    app = FastAPI(
        title=title,
        description=description,
        version=VERSION,
        docs_url=f"{prefix}/docs",
        redoc_url=None,
        openapi_url=f"{prefix}/openapi.json",
        responses=problems.RESPONSES,
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(HeadLikeGet)
    app.include_router(_health_routes(prefix, is_ready))
    app.include_router(routes)
    return app


def _health_routes(prefix: str, is_ready: Callable[[], bool]) -> APIRouter:
    router = APIRouter(prefix=f"{prefix}/health", tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Tell that the process runs."""
        return {"status": "live"}

    @router.get("/ready")
    def ready() -> Response:
        """Tell whether requests are welcome: the schema is there, the database answers, and the service is not stopping."""
        if is_ready():
            return JSONResponse({"status": "ready"})
        return problems.problem(
            503, "not_ready", "the service is starting, stopping, or without its database", headers={"Retry-After": "1"}
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
            raise problems.Problem(401, "the pair's shared key is needed", headers={"WWW-Authenticate": "Bearer"})

    def only(self, endpoint: Endpoint) -> Endpoint:
        """Return ``endpoint`` for them alone."""

        async def checked(request: Request) -> Response:
            self.check(request)
            return await endpoint(request)

        return checked


def internal_app(routes: APIRouter, keys: Sequence[SecretStr]) -> ASGIApp:
    """Return the application on the internal port: the protocol, for those who have one of ``keys``, and the metrics."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    problems.install(app)
    app.add_middleware(HeadLikeGet)
    app.include_router(metrics_routes())
    app.include_router(routes, dependencies=[Depends(KeyHolders(keys).check)])
    return app
