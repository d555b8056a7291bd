"""Where the control API listens, and what the server is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.app.listening import Listening, listen
from crossfade.app.settings import Settings
from crossfade.core.access import Role, issue
from crossfade.errors import UnreachableError, UsageError

TOKEN = issue("ci", Role.VIEWER, "secret", now=0.0, by="ada", expires_s=60.0)


def listening(now: float = 0.0, **settings: str) -> Listening:
    found = listen(Settings(api_port=0, **settings), [TOKEN], now)  # type: ignore[arg-type]
    found.socket.close()
    return found


@pytest.mark.parametrize(
    ("listens", "here", "loopback"),
    [
        ("", "http://127.0.0.1:", True),
        ("127.0.0.2:0", "http://127.0.0.2:", True),
        ("localhost:0", "http://", True),
        ("[::1]:0", "http://[::1]:", True),
        ("0.0.0.0:0", "http://127.0.0.1:", False),
        ("[::]:0", "http://[::1]:", False),
    ],
)
def test_this_machine_reaches_it_wherever_it_listens(listens: str, here: str, loopback: bool) -> None:
    found = listening(listen=listens)
    assert found.url.startswith(here)
    assert found.exposure.loopback is loopback


def test_beyond_loopback_only_while_a_token_is_valid() -> None:
    with pytest.raises(UsageError, match="crossfade token create"):
        listening(60.0, listen="0.0.0.0:0")


def test_nobody_is_believed_about_addresses_but_the_proxy_named() -> None:
    assert {"proxy_headers": False, "forwarded_allow_ips": None}.items() <= listening().uvicorn.items()
    named = listening(trusted_proxy="192.0.2.1").uvicorn
    assert {"proxy_headers": True, "forwarded_allow_ips": "192.0.2.1"}.items() <= named.items()


def test_names_are_of_hosts() -> None:
    assert listening(host_name="A.example, b-c.example").exposure.names == ("a.example", "b-c.example")
    for wrong in ("a.example:80", "https://a.example", "a b", "-"):
        with pytest.raises(UsageError, match="names of hosts without port"):
            listening(host_name=wrong)


def test_a_key_with_a_password_is_refused_instead_of_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="no certificate with its key"):
        listening(tls_cert=str(path), tls_key=str(path))


def test_a_taken_address_is_named() -> None:
    found = listen(Settings(api_port=0), [], 0.0)
    port = found.socket.getsockname()[1]
    found.socket.listen()
    with pytest.raises(UnreachableError, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
        listen(Settings(api_port=port), [], 0.0)
    found.socket.close()
