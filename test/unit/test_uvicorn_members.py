"""The members of uvicorn that it does not document, and that our protocols lean on."""

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service_chassis import fast_path, http_protocol

PROTOCOL = {
    *("data_received", "send_400_response", "_unset_keepalive_if_required"),
    *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
    *("parser", "transport", "flow", "loop", "tasks", "pipeline"),
    *("url", "headers", "scope", "cycle", "expect_100_continue"),
}
PARSER = {
    *("feed_data", "get_method", "get_http_version", "should_upgrade", "should_keep_alive"),
    "set_dangerous_leniencies",
}
CYCLE = {"response_complete", "response_started", "more_body", "keep_alive"}
#: What uvicorn itself looks at of a request in progress, when its connection ends.
EXCHANGE = {"response_complete", "keep_alive", "disconnected", "message_event"}
FLOW = {"write_paused"}


async def _app(_scope: object, _receive: object, _send: object) -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def protocol() -> AsyncIterator[HttpToolsProtocol]:
    """Return uvicorn's own protocol, with a request in progress."""
    transport = Mock(asyncio.Transport)
    transport.get_extra_info.return_value = None
    made = HttpToolsProtocol(uvicorn.Config(_app, lifespan="off", ws="none"), ServerState(), {})
    made.connection_made(transport)
    made.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    yield made
    made.connection_lost(None)
    for task in made.tasks:
        task.cancel()
    await asyncio.wait(made.tasks)


async def test_uvicorn_has_the_members_that_the_protocols_lean_on(
    protocol: HttpToolsProtocol,
) -> None:
    """A release that lacks one would break at the first request, or worse, at a rare one."""
    leant_on = [
        (protocol, PROTOCOL),
        (protocol.parser, PARSER),
        (protocol.cycle, CYCLE | EXCHANGE),
        (protocol.flow, FLOW),
    ]
    missing = {name for each, names in leant_on for name in names if not hasattr(each, name)}

    assert not missing


def _used(module: Any) -> set[str]:
    """Return the members of ``self`` and of ``super()`` that the code of ``module`` names."""
    tree = ast.parse(Path(module.__file__).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in {"self", "super()", "protocol"}:
                found.add(node.attr)
    return found


def _own(module: Any) -> set[str]:
    """Return the members that ``module`` defines itself."""
    tree = ast.parse(Path(module.__file__).read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {
        each.name for node in classes for each in node.body if isinstance(each, ast.FunctionDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [part for each in targets for part in ast.walk(each)]
            found |= {part.attr for part in flat if isinstance(part, ast.Attribute)}
    return found


def test_the_list_of_members_is_complete() -> None:
    """Whatever the protocols name and do not define is uvicorn's, and stands above."""
    modules = (http_protocol, fast_path)
    own = set().union(*(_own(module) for module in modules))
    used = set().union(*(_used(module) for module in modules))

    assert used - own - {"__init__", "_answer"} <= PROTOCOL
    assert used >= PROTOCOL - {"data_received"}
