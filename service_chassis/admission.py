"""Which requests are served, and which are answered 503 because too many are in progress."""

from dataclasses import dataclass
from functools import cached_property

from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_chassis import problems
from two_phase.errors import Unavailable

REJECTED = Counter(
    "http_requests_rejected", "Requests answered with 503 because too many were in progress"
)


@dataclass
class Admission:
    """Reject a POST to ``path`` with ``rejection`` while ``capacity`` of them are in progress.

    A request is in progress once its body has arrived: a client that is slow to send takes no
    capacity. Requests count as they arrive, so that many at once do not all find the same place.
    It is a relief and no promise: the application has a limit of its own.
    """

    path: str
    capacity: int
    rejection: Unavailable
    in_progress: int = 0

    def is_full(self) -> bool:
        """Return whether one more request is too many."""
        return self.in_progress >= self.capacity

    def reject(self) -> Response:
        """Count a rejected request, and return its answer."""
        REJECTED.inc()
        return self._answer

    @cached_property
    def _answer(self) -> Response:
        return problems.unavailable_problem(self.rejection)


class AdmissionControl:
    """The application ``app``, with the requests that ``admission`` lets in."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        concerned = scope["type"] == "http" and scope["method"] == "POST"
        if not concerned or scope["path"] != self._admission.path:
            await self._app(scope, receive, send)
        elif self._admission.is_full():
            await self._admission.reject()(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_arrived = False

        async def received() -> Message:
            nonlocal has_arrived
            message = await receive()
            if not has_arrived and not message.get("more_body"):
                has_arrived = True
                self._admission.in_progress += 1
            return message

        try:
            await self._app(scope, received, send)
        finally:
            self._admission.in_progress -= has_arrived
