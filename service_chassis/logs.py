"""Logs as one JSON object a line, a sentence and its fields (``extra``); the metrics page."""

import logging
import sys
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from pythonjsonlogger.core import RESERVED_ATTRS, BaseJsonFormatter
from pythonjsonlogger.json import JsonFormatter

#: uvicorn says of each of the two listeners that a process has started and finished; httpx has a
#: line for each request, and so for each round.
_QUIET = ("uvicorn.access", "uvicorn.error", "alembic.runtime.plugins", "httpx")
#: Fields that are no part of what is told: a sentence once more, in colours.
_LEFT_OUT = [*RESERVED_ATTRS, "color_message"]
_NAMES = {"message": "event", "levelname": "level", "exc_info": "exception"}


class _ConsoleFormatter(BaseJsonFormatter):
    """The same fields on a line for people: time, level, sentence, and the others by name."""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Return the line, with a traceback below it if there is one."""
        sentence, level, when = (log_data.pop(name) for name in ("event", "level", "timestamp"))
        traceback = log_data.pop("exception", None)
        fields = "".join(f" {name}={value}" for name, value in log_data.items())
        line = f"{when:%Y-%m-%dT%H:%M:%S.%fZ} [{level:<8}] {sentence}{fields}"
        return f"{line}\n{traceback}" if traceback else line


def configure_logging(service: str, level: str, layout: str) -> None:
    """Send all logs of this process to standard output, as ``json`` or for a ``console``."""
    formatter = _ConsoleFormatter if layout == "console" else JsonFormatter
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        formatter(
            ["message", "levelname"],
            rename_fields=_NAMES,
            static_fields={"service": service},
            timestamp=True,
            reserved_attrs=_LEFT_OUT,
        )
    )
    for name, number in logging.getLevelNamesMapping().items():
        logging.addLevelName(number, name.lower())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def metrics_routes() -> APIRouter:
    """Return the page that Prometheus reads."""
    router = APIRouter()

    @router.get(
        "/metrics",
        tags=["metrics"],
        response_class=PlainTextResponse,
        openapi_extra={"security": []},
    )
    def show_metrics() -> Response:
        """Show the figures of this process as Prometheus reads them; no key is needed."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return router
