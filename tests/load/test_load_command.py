"""`crossfade load` as typed: what it refuses, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.e2e.site import PROGRAM, until
from tests.load.serving import answer
from tests.tripsearch.running import free_port

from crossfade.app.cli import main
from crossfade.app.load.peak import read_peak
from crossfade.app.planfile import load_plan
from crossfade.core.events import RolloutStarted
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.look import KeptTick
from crossfade.core.split import Version
from crossfade.errors import PlanError
from crossfade.simulation.recording import Happened, Header, RecordedTick, header_line, tick_line

Plan = Callable[..., Path]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Callable[..., tuple[int, Path]]]:
    """Start servers of another process; each has a port and a file to which it adds a line a request."""
    started: list[subprocess.Popen[str]] = []

    def start(delays: str = "0.0", reply: bytes = answer()) -> tuple[int, Path]:
        log = tmp_path / f"asked-{len(started)}"
        process = subprocess.Popen(
            [sys.executable, "-c", TARGET, str(log), delays, reply.decode()], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline()), log

    yield start
    for process in started:
        process.kill()
        process.wait(10)


TARGET = """
import asyncio, sys, uvloop
log, delays, reply = open(sys.argv[1], "ab", 0), [float(d) for d in sys.argv[2].split(",")], sys.argv[3].encode()
class Connection(asyncio.Protocol):
    number = 0
    def connection_made(self, transport):
        self.transport, self.held = transport, b""
    def data_received(self, data):
        self.held += data
        while b"\\r\\n\\r\\n" in self.held:
            head, _, self.held = self.held.partition(b"\\r\\n\\r\\n")
            log.write(head.split(b"\\r\\n")[0] + b"\\n")
            Connection.number += 1
            delay = delays[Connection.number % len(delays)]
            asyncio.get_running_loop().call_later(delay, self.say)
    def say(self):
        if not self.transport.is_closing():
            self.transport.write(reply)
async def main():
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=2000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["load", *(str(word) for word in words)])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


# ── what it refuses ──


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--target", "http://example.com"),
            "is not the plan.s own .* say so: --may-load example.com:80",
        ),
        (("--target", "http://example.com", "--may-load", "example.org:80"), "--may-load example.com:80"),
        (("--target", "https://example.com"), "is no address to ask"),
        (("--target", "http://127.0.0.1:18100/x"), "is no address to ask"),
        (("--target", "http://127.0.0.1:99999"), "is no address to ask"),
        (("--target", "http://127.0.0.1:18101", "--direct"), "give one of them"),
        (("--may-load", "example.com:80"), "name the target"),
        (("--v2", "25%"), "has users choose their version.*--direct"),
        (("--v2", "250%", "--direct"), "--v2: 250% is more than everybody"),
        (("--for", "5"), "--for: '5' is no duration"),
        (("--for", "3d"), "longer than a day"),
        (("--rate", "many"), "--rate: .* is no rate"),
        (("--rate", "2000000"), "more than one machine can ask"),
        (("--think", "5"), "--think: '5' is no duration"),
        (("--users", "200000"), "more than one machine can be"),
        (("--profile", "peak"), "what the peak is nobody says"),
        (("--recording", "x"), "name that profile"),
        (("--profile", "peak", "--recording", "/nowhere"), "can't be read"),
    ],
)
def test_what_makes_no_sense_or_no_friends_is_refused(plan: Plan, words: tuple[str, ...], said: str) -> None:
    assert re.search(said, run(plan(), *words, code=2))


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("{scenarios: [{name: a, post: /trips}]}", "a load only reads: it sends GET"),
        ("{scenarios: [{name: a, method: DELETE, get: /trips}]}", "a load only reads: it sends GET"),
        ("{scenarios: [{name: a, get: /other}]}", "/other is not at the plan's entry"),
        ("{scenarios: [{name: a, get: /trips/../admin}]}", "is no path and query"),
        ('{scenarios: [{name: a, get: "/trips?x={y}"}]}', "{y} has no values"),
        ('{scenarios: [{name: a, get: "/trips?x=a b"}]}', "is no path and query"),
        ("{scenarios: [{name: a, get: /trips}, {name: a, get: /trips}]}", "written twice"),
        ("{values: {user: [a]}}", "has a meaning of its own"),
        ('{values: {x: ["a\\nHost: evil"]}}', "can't stand in a URL"),
        ("{think: 2h}", "longer than anybody thinks"),
        ("{peak: 5}", "is no rate"),
        ("{version: cookie x}", "is no response header"),
        ('{expect: ["complaints < 5"]}', "a load shows failure_rate and latency_pNN, not complaints"),
        ('{expect: ["latency_p99 >= 5ms"]}', "is met when the service is bad"),
        ('{expect: ["stable"]}', "nothing that a load can show"),
        ("{user: 5}", "did you mean 'users'"),
    ],
)
def test_mistakes_in_the_plan_are_told_with_their_place(plan: Plan, load: str, said: str) -> None:
    with pytest.raises(PlanError, match=re.escape(said)) as found:
        load_plan(plan(f"load: {load}\n"))
    assert found.value.problems[0].line == 12


@pytest.mark.parametrize("section", ["load: {users: 5}\n", "contract: {v1: a.yaml, v2: b.yaml}\n"])
def test_load_and_contract_may_change_while_a_rollout_goes_on(plan: Plan, section: str) -> None:
    assert load_plan(plan()).digest == load_plan(plan(section)).digest


# ── peaks ──


def _recorded(folder: Path, counts: dict[int, int]) -> Path:
    started = Happened(revision=1, event=RolloutStarted(at=0.0, plan="trips", digest="x", phase="half"))
    header = Header(rollout="trips", plan="x", tick_s=60.0, lateness_s=0.0, last_tick=max(counts), history=(started,))
    arm = Arm(Version.V1, "eu", "")
    lines = [header_line(header)]
    previous = None
    for number, requests in counts.items():
        tick = Tick(number=number, start=number * 60.0, length=60.0, cells={arm: Cell(requests=requests)})
        kept = KeptTick(tick=tick, revision=1, previous=previous)
        lines.append(tick_line(RecordedTick(kept=kept, looked=None)))
        previous = number
    path = folder / "recording"
    path.write_bytes(b"".join(lines))
    return path


def test_the_busiest_hour_of_a_recording_is_replayed(tmp_path: Path) -> None:
    counts = dict.fromkeys(range(1000, 1200), 10) | {number: 100 + number - 1080 for number in range(1080, 1140)}
    peak = read_peak(_recorded(tmp_path, counts))
    assert peak.counts == tuple(float(100 + n) for n in range(60))
    assert peak.rate == pytest.approx(159 / 60)
    assert "1h of trips from 1970-01-01 18:00:00" in peak.said


def test_a_short_recording_with_holes_is_replayed_whole(tmp_path: Path) -> None:
    peak = read_peak(_recorded(tmp_path, {1000: 6, 1003: 60}))
    assert peak.counts == (6.0, 0.0, 0.0, 60.0)
    assert peak.rate == 1.0


# ── runs ──


def test_the_report_is_told_in_four_ways_and_the_exit_code_by_what_was_expected(
    plan: Plan, target: Callable[..., tuple[int, Path]]
) -> None:
    port, log = target()
    path = plan('load: {expect: ["failure_rate < 1%"]}\n', port=port)
    data: Any = json.loads(run(path, "--rate", "400/s", "--for", "1s", "-o", "json"))
    assert data["verdict"] == "PASS"
    assert data["all"]["requests"] == len(log.read_text().splitlines()) == 400
    assert data["all"]["latency_ms"]["p99"] is not None
    assert "failure_rate < 1%" in run(path, "--rate", "400/s", "--for", "1s")
    assert yaml.safe_load(run(path, "--rate", "400/s", "--for", "1s", "-o", "yaml")).keys() == data.keys()
    page = run(path, "--rate", "400/s", "--for", "1s", "-o", "html")
    assert page.startswith("<!doctype html>")
    assert "did not tell their version" in page
    bad, _ = target("0.0", answer(b"<b>no</b>", "503 No", b""))
    failed = run(plan(port=bad), "--rate", "100/s", "--for", "1s", code=1)
    assert re.search(r"FAIL +failure_rate <= 1% \(all\): 100 of 100", failed)
    assert "wrong status: 100, such as: status 503" in failed


def test_nobody_listening_from_the_start_is_one_clear_line(plan: Plan) -> None:
    port = free_port()
    said = run(plan(port=port), "--for", "10m", code=4)
    assert said == f"crossfade: 127.0.0.1:{port} can't be connected to: Connection refused; start it first\n"


@pytest.mark.slow
def test_ctrl_c_gives_a_partial_report_and_a_terminal_a_bar(
    plan: Plan, target: Callable[..., tuple[int, Path]]
) -> None:
    port, log = target()
    screen, terminal = pty.openpty()
    command = [*PROGRAM, "load", str(plan(port=port)), "--users", "20", "--think", "50ms", "--for", "10m"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    shown: list[bytes] = []

    def watch() -> None:
        try:
            while data := os.read(screen, 4096):
                shown.append(data)
        except OSError:
            return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    until("a hundred were asked", lambda: log.exists() and len(log.read_text().splitlines()) > 100)
    until("the bar tells of them", lambda: b"under way" in b"".join(shown))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "PARTIAL: stopped after" in output
    assert "INCONCLUSIVE" in output.splitlines()[-1]
    assert "Traceback" not in output + b"".join(shown).decode()


@pytest.mark.slow
@pytest.mark.external
def test_it_and_wrk_tell_the_same_of_the_same_target(plan: Plan, target: Callable[..., tuple[int, Path]]) -> None:
    """Counts are the server's own, to the one; latencies are the target's, which takes 20 to 80 ms."""
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("needs wrk: apt-get install wrk")
    delays = ",".join(str(0.02 + 0.06 * (n * 37 % 100) / 100) for n in range(100))
    port, log = target(delays)
    words = (plan(port=port), "--users", "50", "--think", "0s", "--for", "3s", "-o", "json")
    data: Any = json.loads(run(*words))
    ours = Counter(log.read_text().splitlines())
    assert data["all"]["requests"] == ours.total()
    assert data["all"]["failures"] == 0
    done = subprocess.run(
        [wrk, "-t1", "-c50", "-d3s", "--latency", f"http://127.0.0.1:{port}/wrk"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    p99 = re.search(r"99%\s+([0-9.]+)(ms|s)", done.stdout)
    assert p99
    theirs = float(p99[1]) * (1000 if p99[2] == "s" else 1)
    assert min(theirs, data["all"]["latency_ms"]["p99"]) >= 75
    assert data["all"]["latency_ms"]["p50"] >= 45
