"""One process with two listeners.

Starts them, waits for the schema, and stops in the order in which nothing is lost.

start: listeners -> schema -> background work -> ready stop: not ready -> [drain_wait_seconds] ->
public listener -> last decisions told -> internal listener -> database
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import Engine
from starlette.types import ASGIApp

from service_chassis import migrations
from service_chassis.admission import Admission, AdmissionControl
from service_chassis.database import UnsafeDatabase, is_reachable, wait_for_schema
from service_chassis.fast_path import FastPath, protocol
from service_chassis.logs import configure_logging
from service_chassis.settings import ServiceSettings, told
from service_chassis.whole_bodies import WholeBodies

log = logging.getLogger(__name__)

#: When a service stops, so long have: requests under way, decisions that are not told yet, and
#: questions of participants.
PUBLIC_SECONDS, DRAIN_SECONDS, INTERNAL_SECONDS = 5, 3, 1
S = TypeVar("S", bound=ServiceSettings)


@dataclass
class Status:
    """Whether a service is ready for requests: started, not stopping, and its database answers."""

    engine: Engine
    started: bool = False
    stopping: bool = False

    def is_ready(self) -> bool:
        """Return whether requests are welcome."""
        return self.started and not self.stopping and is_reachable(self.engine)


async def _nothing() -> None:
    return None


@dataclass
class Service:
    """What a service is made of, for ``serve``."""

    name: str
    status: Status
    public: ASGIApp
    internal: ASGIApp
    #: What most requests to either listener are, if one kind is.
    public_fast_path: FastPath | None = None
    internal_fast_path: FastPath | None = None
    #: How many requests of one kind the public listener lets in.
    public_admission: Admission | None = None
    #: Work that never ends while the service runs; if it does end, the process does too, and is
    #: started again.
    background: Sequence[Callable[[], Awaitable[Any]]] = ()
    #: Returns when all that was accepted is done.
    drain: Callable[[], Awaitable[None]] = _nothing
    close: Callable[[], Awaitable[None]] = field(default=_nothing)
    #: What the operator should hear about the settings.
    remarks: Sequence[str] = ()


class CannotListen(Exception):
    """The message says which setting, where, and why not."""


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us, because there are two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings_type: type[S], create: Callable[[S], Service]) -> None:
    """Run the service until SIGTERM or SIGINT.

    Ends the process with a sentence if its settings or database are unusable.
    """
    try:
        settings = settings_type.load()
    except ValidationError as error:
        print(told(error), file=sys.stderr)  # noqa: T201 - no log yet
        raise SystemExit(2) from None
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - no log yet
        raise SystemExit(2) from None
    try:
        import uvloop

        uvloop.run(_run(settings, create))
    except* UnsafeDatabase as unsafe:
        log.critical("%s", unsafe.exceptions[0])
        raise SystemExit(3) from None
    except* CannotListen as taken:
        log.critical("%s", taken.exceptions[0])
        raise SystemExit(1) from None


async def _run(settings: S, create: Callable[[S], Service]) -> None:
    service = create(settings)
    configure_logging(service.name, settings.log_level, settings.log_format)
    for remark in service.remarks:
        log.warning(remark)
    # As many threads as connections: work waits for both in one queue.
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(settings.database_pool_size, "database")
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    working = asyncio.create_task(_work(service, settings))
    internal = _configuration(
        service.internal, service.internal_fast_path, None, settings, INTERNAL_SECONDS
    )
    public = _configuration(
        service.public, service.public_fast_path, service.public_admission, settings, PUBLIC_SECONDS
    )
    async with _listening(internal, _bound("internal_port", settings)):
        async with _listening(public, _bound("public_port", settings)):
            ports = {"public": settings.public_port, "internal": settings.internal_port}
            log.info("%s listens", service.name, extra=ports)
            await _until_stopped(service, settings, stop, working)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(service.drain(), DRAIN_SECONDS)
    working.cancel()
    await asyncio.wait({working})
    await service.close()
    service.status.engine.dispose()
    log.info("%s has stopped", service.name)


async def _until_stopped(
    service: Service, settings: ServiceSettings, stop: asyncio.Event, working: asyncio.Task[None]
) -> None:
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, working}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    service.status.stopping = True
    log.info("%s is stopping", service.name)
    await asyncio.sleep(settings.drain_wait_seconds)


async def _work(service: Service, settings: ServiceSettings) -> None:
    await wait_for_schema(
        service.status.engine,
        service.name,
        lambda connection: migrations.is_current(connection, service.name),
        standby_required=settings.synchronous_standby_required,
    )
    async with asyncio.TaskGroup() as group:
        for work in service.background:
            group.create_task(_endless(work))
        service.status.started = True
        _spare_the_collector()
        log.info("%s is ready", service.name)
        await asyncio.Event().wait()


def _spare_the_collector() -> None:
    """Leave what lives as long as the process out of garbage collections; collect less often.

    Requests come and go without cycles; walking over the framework's own objects for them cost a
    sixth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _endless(work: Callable[[], Awaitable[Any]]) -> None:
    await work()
    raise AssertionError("background work never ends")


def _configuration(
    app: ASGIApp,
    fast_path: FastPath | None,
    admission: Admission | None,
    settings: ServiceSettings,
    graceful_seconds: int,
) -> uvicorn.Config:
    admitting = AdmissionControl(app, admission) if admission else app
    made_by = protocol(fast_path if settings.fast_path else None, admission)
    return uvicorn.Config(
        WholeBodies(admitting),
        http=made_by,  # type: ignore[arg-type] # called as a type would be
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=graceful_seconds,
    )


@contextlib.asynccontextmanager
async def _listening(config: uvicorn.Config, bound: socket.socket) -> AsyncIterator[None]:
    """Serve on ``bound`` inside the block; on leaving, finish requests in progress first."""
    listener = _Listener(config)
    serving = asyncio.create_task(listener.serve([bound]))
    try:
        yield
    finally:
        listener.should_exit = True
        await serving


def _bound(setting: str, settings: ServiceSettings) -> socket.socket:
    host, port = settings.host, getattr(settings, setting)
    # "::" takes IPv4 too, where the machine has both.
    everything = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server(
            (host, port), family=family, backlog=2048, dualstack_ipv6=everything
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(f"{setting.upper()}: cannot listen on {host}:{port}: {why}") from None
    bound.setblocking(False)
    return bound
