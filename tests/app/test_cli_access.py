"""Tokens, the record of acts and a controller elsewhere, by the command line as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.app.serving import Asked, asked

from crossfade.core.access import Role

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from crossfade.app.cli import main; main()"]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
    done = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False, env=inherited | env
    )
    assert "Traceback" not in done.stderr
    return done


async def elsewhere(api: Asked, *arguments: str, secret: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command against the API under test, as somebody on another machine would."""
    said = {"CROSSFADE_URL": api.url, "CROSSFADE_TOKEN": secret} | env
    return await asyncio.to_thread(run, *arguments, **said)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


async def secret_of(api: Asked, role: Role) -> str:
    return (await api.token(role, role)).removeprefix("Bearer ")


# ── on this machine ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_made_listed_and_revoked_and_all_of_it_is_written_down(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path))
    made = run("token", "create", "--name", "ci", "--role", "operator", "--expires", "30d", *state)
    secret = made.stdout.strip()
    assert (made.returncode, secret[:10], "shown this once" in made.stderr) == (0, "crossfade_", True)
    (found,) = json.loads(run("token", "list", *state, "-o", "json").stdout)
    assert (found["name"], found["role"], found["expired"]) == ("ci", "operator", False)
    assert found["expires_at"] - found["created_at"] == 30 * 86_400
    again = run("token", "create", "--name", "ci", "--role", "admin", *state)
    assert (again.returncode, "there is a token 'ci' already" in again.stderr) == (3, True)
    assert "the token ci is revoked" in run("token", "revoke", "ci", *state).stdout
    missing = run("token", "revoke", "ci", *state)
    assert (missing.returncode, missing.stderr) == (2, "there is no token 'ci'; there is none\n")
    acts = json.loads(run("audit", *state, "-o", "json").stdout)
    assert [(act["act"], act["reason"]) for act in acts] == [("token create", "ci, operator"), ("token revoke", "ci")]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_text()]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--name", "", "--role", "viewer"), "a token's name has 1 to 64 letters"),
        (("--name", "a b", "--role", "viewer"), "not 'a b'"),
        (("--name", "x" * 65, "--role", "viewer"), "a token's name has 1 to 64 letters"),
        (("--name", "ci", "--role", "king"), "'king' is not one of"),
        (("--name", "ci", "--role", "viewer", "--expires", "soon"), "'soon' is no duration"),
        (("--name", "ci", "--role", "viewer", "--expires", "0s"), "over at once"),
    ],
)
def test_what_is_no_token_is_refused(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = run("token", "create", *options, "--state", str(tmp_path))
    assert (done.returncode, done.stdout, told in done.stderr) == (2, "", True)
    assert not (tmp_path / "tokens.json").exists()


def test_many_at_once_lose_no_token(tmp_path: Path) -> None:
    create = [*PROGRAM, "token", "create", "--role", "viewer", "--state", str(tmp_path), "--name"]
    started = [
        subprocess.Popen([*create, f"t{n}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for n in range(6)
    ]
    assert [process.wait(60) for process in started] == [0] * 6
    found = json.loads(run("token", "list", "--state", str(tmp_path), "-o", "json").stdout)
    assert {token["name"] for token in found} == {f"t{n}" for n in range(6)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--listen", "0.0.0.0:0"), "crossfade token create --name me --role operator --state"),
        (("--listen", "[::]:0"), "listens on :: only where there is a token"),
        (("--listen", "8090"), "--listen is HOST:PORT"),
        (("--listen", "127.0.0.1:99999"), "--listen is HOST:PORT"),
        (("--tls-cert", "x.pem"), "go together"),
        (("--tls-cert", "x.pem", "--tls-key", "y.pem"), "are no certificate with its key"),
        (("--host-name", "a.example:8090"), "names of hosts without port"),
    ],
)
def test_serve_refuses_to_listen_where_it_is_not_safe_or_not_meant(
    options: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    plan = str(ROOT / "plans" / "trips-v2.yaml")
    done = run("serve", plan, "--state", str(tmp_path / "state"), "--api-port", "0", *options)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_an_expired_token_is_no_reason_to_listen(tmp_path: Path) -> None:
    run("token", "create", "--name", "old", "--role", "viewer", "--expires", "1s", "--state", str(tmp_path))
    tokens = json.loads((tmp_path / "tokens.json").read_text())
    tokens["tokens"][0]["expires_at"] = 1.0
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    plan = str(ROOT / "plans" / "trips-v2.yaml")
    done = run("serve", plan, "--state", str(tmp_path), "--listen", "0.0.0.0:0")
    assert (done.returncode, "only where there is a token" in done.stderr) == (2, True)


# ── elsewhere ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_commands_reach_a_controller_elsewhere(api: Asked, tmp_path: Path) -> None:
    secret = await secret_of(api, Role.OPERATOR)
    file = tmp_path / "token"
    file.write_text(secret + "\n")
    status = await elsewhere(api, "status", "-o", "json", CROSSFADE_TOKEN_FILE=str(file))
    assert json.loads(status.stdout)["rollout"] == "trips-v2"
    assert (await elsewhere(api, "promote", "trips-v2", "--reason", "nightly", secret=secret)).returncode == 0
    events = json.loads((await elsewhere(api, "events", "-o", "json", secret=secret)).stdout)
    promoted = next(event for event in events if event["kind"] == "PhasePromoted")
    assert (promoted["data"]["by"], promoted["data"]["reason"]) == ("operator", "nightly")
    assert "u7" in (await elsewhere(api, "whois", "u7", "-o", "json", secret=secret)).stdout
    rolled = await elsewhere(api, "rollback", "--url", api.url, secret=secret)
    assert "everyone is on V1" in rolled.stdout


async def test_a_role_too_low_ends_with_2_and_names_the_one_needed(api: Asked) -> None:
    done = await elsewhere(api, "abort", secret=await secret_of(api, Role.OPERATOR))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "this needs the role admin; the token operator has operator\n"


async def test_an_admin_elsewhere_makes_and_revokes_tokens_and_reads_the_record(api: Asked) -> None:
    admin = await secret_of(api, Role.ADMIN)
    made = (await elsewhere(api, "token", "create", "--name", "ci", "--role", "viewer", secret=admin)).stdout.strip()
    assert (await elsewhere(api, "status", secret=made)).returncode == 0
    assert "ci" in (await elsewhere(api, "token", "list", secret=admin)).stdout
    assert (await elsewhere(api, "token", "revoke", "ci", secret=admin)).returncode == 0
    refused = await elsewhere(api, "status", secret=made)
    assert (refused.returncode, refused.stderr) == (2, "this token is unknown, expired or revoked\n")
    assert "admin (admin) from 127.0.0.1: token create" in (await elsewhere(api, "audit", secret=admin)).stdout


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, "CROSSFADE_TOKEN or CROSSFADE_TOKEN_FILE holds the token"),
        ({"CROSSFADE_TOKEN": " \n"}, "CROSSFADE_TOKEN or CROSSFADE_TOKEN_FILE holds the token"),
        ({"CROSSFADE_TOKEN": "a\nb"}, "holds what is no part of one"),
        ({"CROSSFADE_TOKEN_FILE": "/nowhere"}, "/nowhere can't be read"),
        ({"CROSSFADE_TOKEN": "t", "CROSSFADE_URL": "ftp://x"}, "--url is http(s)://HOST:PORT"),
        ({"CROSSFADE_TOKEN": "t", "CROSSFADE_URL": "https://ada:hunter2@x"}, "--url is http(s)://HOST:PORT"),
    ],
)
def test_without_token_or_address_nothing_is_sent(env: dict[str, str], told: str) -> None:
    done = run("status", **({"CROSSFADE_URL": "http://127.0.0.1:9"} | env))
    assert (done.returncode, done.stdout, told in done.stderr) == (2, "", True)
    assert "hunter2" not in done.stderr


def test_a_redirect_does_not_get_the_token() -> None:
    asked_for: list[Any] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_for.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/stolen")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    Thread(target=server.serve_forever, daemon=True).start()
    done = run("status", CROSSFADE_URL=f"http://127.0.0.1:{server.server_port}", CROSSFADE_TOKEN="t")
    server.shutdown()
    assert (done.returncode, asked_for) == (1, ["/api/v1/rollouts"])
    assert "that is no answer of a controller" in done.stderr
