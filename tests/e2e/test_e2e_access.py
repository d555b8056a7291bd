"""A controller that other machines reach: TLS, tokens that end while it serves, and streams that end with it."""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.e2e.site import Site, now
from tests.tripsearch.running import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority's certificate, and one of its own for rollouts.example."""
    folder = tmp_path_factory.mktemp("authority")
    ca = trustme.CA()
    issued = ca.issue_cert("rollouts.example", "127.0.0.1")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(folder / "cert.pem", append=True)
    return folder


class _Remote:
    """Somebody on another machine, with a token."""

    def __init__(self, port: int, ca: Path, token: str) -> None:
        self._port, self._token = port, token
        self._trust = ssl.create_default_context(cafile=str(ca))

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        answer = self.open(method, path, body)
        return answer.status, json.loads(answer.read())

    def open(self, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=20, context=self._trust)
        connection.request(
            method,
            f"/api/v1/rollouts/trips-v2{path}",
            body,
            {
                "Authorization": f"Bearer {self._token}",
                "Host": "rollouts.example",
                "Content-Type": "application/json",
                "X-Forwarded-For": "203.0.113.9",
            },
        )
        return connection.getresponse()


def test_a_controller_is_reached_from_elsewhere_over_tls_until_the_token_is_revoked(
    site: Site, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.services.start()
    token = site.verb("token", "create", "--name", "ci", "--role", "operator").strip()
    port = free_port()
    tls = ("--tls-cert", str(authority / "cert.pem"), "--tls-key", str(authority / "key.pem"))
    site.serve("--listen", f"0.0.0.0:{port}", "--host-name", "rollouts.example", *tls)
    # This machine's commands trust the very certificate, whatever name and authority it has.
    assert site.status()["state"] == "running"
    ci = _Remote(port, authority / "ca.pem", token)
    assert ci.ask("POST", "/promote", "{}")[0] == 200
    assert ci.ask("POST", "/abort", "{}")[0] == 403
    monkeypatch.setenv("CROSSFADE_TOKEN", token)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    url = f"https://127.0.0.1:{port}"
    assert json.loads(site.crossfade("status", "--url", url, "-o", "json"))["phase"]["name"] == "canary"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in site.crossfade("status", "--url", url, code=4)
    monkeypatch.delenv("CROSSFADE_TOKEN")

    site.verb("token", "revoke", "ci")
    assert ci.ask("GET", "")[0] == 401
    acts = json.loads(site.verb("audit", "-o", "json"))
    assert [(act["by"], act["act"], act["status"]) for act in acts[1:4]] == [
        ("ci", "promote", 200),
        ("ci", "abort", 403),
        (acts[0]["by"], "token revoke", 200),
    ]
    assert {act["address"] for act in acts} == {"", "127.0.0.1"}  # X-Forwarded-For is not believed
    assert token not in site.log()
    assert token not in "".join(path.read_text() for path in site.state.glob("*.json*"))


def test_serve_ends_at_once_with_streams_open(site: Site) -> None:
    site.services.start()
    site.serve()
    control = json.loads((site.home / "control.json").read_text())
    host = control["url"].removeprefix("http://")
    streams = []
    for _ in range(20):
        connection = http.client.HTTPConnection(host, timeout=20)
        path = "/api/v1/rollouts/trips-v2/events/stream?after=0"
        connection.request("GET", path, headers={"Authorization": f"Bearer {control['token']}"})
        streams.append(connection.getresponse())
    readers = [threading.Thread(target=stream.read) for stream in streams]
    for reader in readers:
        reader.start()
    began = now()
    assert site.kill(signal.SIGTERM) == 0
    assert now() - began < 4.0  # uvicorn alone would wait for the streams, and give up after five seconds
    for reader in readers:
        reader.join(5)
    assert not any(reader.is_alive() for reader in readers)


def test_a_rollback_without_a_controller_is_written_down(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    site.kill()
    site.verb("rollback", "--direct", "--reason", "it burns")
    last = json.loads(site.verb("audit", "-o", "json"))[-1]
    assert (last["act"], last["rollout"], last["reason"], last["status"]) == (
        "rollback --direct",
        "trips-v2",
        "it burns",
        200,
    )
