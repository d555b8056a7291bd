"""Runs one application in one process: socket, signals, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import uvicorn
import uvloop

from tripsearch import log
from tripsearch.http import Receive, Scope, Send
from tripsearch.providers.database import DatabaseUnusableError
from tripsearch.settings import ServeSettings

_log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 75  # longer than a proxy keeps an idle connection, so that the proxy closes first
_SHUTDOWN_S = 5
_BACKLOG = 2048


class Application(Protocol):
    """An ASGI application that can be told that the end is near."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection scope."""
        ...

    def stopping(self) -> None:
        """Let go of requests that would not end by themselves."""
        ...


Opening = Callable[[], AbstractAsyncContextManager[Application]]
"""Opens what an application needs, and closes it at the end."""


def run(service: str, settings: ServeSettings, opening: Opening) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 1 with one line on stderr that says why."""
    log.set_up(service)
    try:
        listener = _bind(settings)
    except OSError as error:
        return _refuse_port(service, settings, error)
    try:
        with contextlib.closing(listener):
            uvloop.run(_serve(service, listener, opening))
    except OSError as error:
        # Two that start at the same moment can both bind; listening is what only one can.
        if error.errno != errno.EADDRINUSE:
            raise
        return _refuse_port(service, settings, error)
    except DatabaseUnusableError as error:
        return _refuse(service, str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 0  # told to stop while starting
    return 0


def _bind(settings: ServeSettings) -> socket.socket:
    """Take the port before anything slow is done. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


async def _serve(service: str, listener: socket.socket, opening: Opening) -> None:
    starting = asyncio.current_task()
    serving: list[tuple[Application, _Server]] = []

    def stop() -> None:
        for application, server in serving:
            application.stopping()
            server.should_exit = True
        if not serving and starting is not None:
            starting.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    async with opening() as application:
        server = _Server(
            uvicorn.Config(
                application,
                http="httptools",
                loop="uvloop",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # /control must see who really asks
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_S,
                backlog=_BACKLOG,
            )
        )
        serving.append((application, server))
        gc.collect()
        gc.freeze()  # what was made by now stays; looking through it again and again costs answers
        host, port = listener.getsockname()[:2]
        _log.info("%s serves on %s:%s", service, host, port, extra={"host": host, "port": port})
        await server.serve(sockets=[listener])
        _log.info("%s has stopped", service)


class _Server(uvicorn.Server):
    """Without uvicorn's handlers, which raise the signal again at the end: being told to stop is no failure."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _refuse_port(service: str, settings: ServeSettings, error: OSError) -> int:
    return _refuse(service, f"can't listen on {settings.host}:{settings.port}: {error.strerror}; name another --port")


def _refuse(service: str, message: str) -> int:
    sys.stderr.write(f"tripsearch {service}: {message}\n")
    return 1


@contextlib.asynccontextmanager
async def nothing_to_open(application: Application) -> AsyncIterator[Application]:
    """For an application that needs nothing."""
    yield application
