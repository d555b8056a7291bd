"""Where the control API listens, and whether it may: anywhere but on loopback only with tokens."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from crossfade.app.settings import Settings
from crossfade.app.web.patience import Patience
from crossfade.app.web.served import Exposure
from crossfade.core.access import Token
from crossfade.errors import UnreachableError, UsageError

log = logging.getLogger("crossfade")

_LOOPBACK = "127.0.0.1"
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_.])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that the API was given, and what it is given with."""

    socket: socket.socket
    url: str
    """For commands on this machine."""
    exposure: Exposure
    uvicorn: dict[str, Any]
    """Settings of the server."""
    ca: str
    """The certificate file; empty without TLS."""


def listen(settings: Settings, tokens: Sequence[Token], now: float) -> Listening:
    """Take the API's address before anything is started, so that a taken one costs nothing.

    Raises UsageError where the settings can't be meant or are not safe, UnreachableError where the address is taken.
    """
    host, port = _address(settings)
    tls = _tls(settings)
    loopback = _is_loopback(host)
    if not loopback and all(token.expired(now) for token in tokens):
        raise UsageError(
            f"the control API listens on {host} only where there is a token: make one with `crossfade token create "
            f"--name me --role operator --state {settings.state}`"
        )
    if not loopback and not tls and not settings.trusted_proxy:
        log.warning("tokens travel in clear to %s: use --tls-cert and --tls-key, or a proxy that speaks TLS", host)
    listener = _take(host, port)
    exposure = Exposure(
        loopback=loopback,
        names=_names(settings.host_name),
        tls=bool(tls),
    )
    return Listening(
        socket=listener,
        url=f"{'https' if tls else 'http'}://{_here(listener)}",
        exposure=exposure,
        uvicorn=tls | _forwarded(settings) | {"http": Patience},
        ca=str(settings.tls_cert.resolve()) if settings.tls_cert else "",
    )


def _address(settings: Settings) -> tuple[str, int]:
    if not settings.listen:
        return _LOOPBACK, settings.api_port
    host, colon, port = settings.listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--listen is HOST:PORT, such as 0.0.0.0:8090 or [::]:8090, not {settings.listen!r}")
    return host, int(port)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(f"--host-name has names of hosts without port, such as rollouts.example.org, not {name!r}")
    return names


def _tls(settings: Settings) -> dict[str, Any]:
    """Return the server's settings for TLS, after a look at the files."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return {}
    if cert is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{cert} and {key} are no certificate with its key, in PEM and without a password: {error}"
        ) from None
    return {"ssl_certfile": cert, "ssl_keyfile": key}


def _no_password() -> str:
    raise ValueError("the key has a password")


def _forwarded(settings: Settings) -> dict[str, Any]:
    proxy = settings.trusted_proxy
    return {"proxy_headers": bool(proxy), "forwarded_allow_ips": proxy or None}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _take(host: str, port: int) -> socket.socket:
    listener: socket.socket | None = None
    try:
        # With the protocol named asyncio sends small answers at once; without, it waits for acknowledgements (40 ms).
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise UnreachableError(
            f"the control API can't listen on {host}:{port}: {error.strerror or error}; "
            "stop what holds the port, or choose another with --api-port or --listen (0 takes a free one)"
        ) from None
    return listener


def _here(listener: socket.socket) -> str:
    """Return host and port by which this machine reaches a socket."""
    host, port = listener.getsockname()[:2]
    address = ip_address(str(host))
    if address.is_unspecified:
        host = "::1" if address.version == 6 else _LOOPBACK
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
