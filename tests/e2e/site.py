"""Starting, asking and ending the parts of a migration, as a user and as a saboteur."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tests.tripsearch.running import Running, Starter, free_port

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from crossfade.app.cli import main; main()"]
QUERY = "from=JFK&to=LAX&date=2026-03-05"
START_S = 30.0


def now() -> float:
    """Return real seconds: these tests are about time."""
    return time.monotonic()  # noqa: TID251 - see above


def until(what: str, holds: Callable[[], bool], within_s: float = START_S) -> None:
    """Wait for a condition; fail with its name where it doesn't come."""
    deadline = now() + within_s
    while not holds():
        assert now() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.02)  # noqa: TID251 - another process tells nobody


class Services:
    """V1, V2 and the weather provider, kept from test to test: what a test killed or spoiled is made good."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._running: dict[str, Running] = {}
        self.v1, self.v2, self.weather = free_port(), free_port(), free_port()

    def start(self) -> tuple[Running, Running, Running]:
        """Have all three run, well-behaved; return weather provider, V1 and V2."""
        weather, v1 = self.start_weather(), self.start_v1()
        options = ("--weather", weather.url, "--allow-faults", "--breaker-cooldown", "1", "--weather-timeout-ms", "200")
        v2 = self._start("v2", self.v2, *options)
        v2.control(fail_rate=0.0)
        return weather, v1, v2

    def start_v1(self) -> Running:
        return self._start("v1", self.v1, "--allow-faults")

    def start_weather(self) -> Running:
        weather = self._start("weather-provider", self.weather)
        weather.control(mode="normal")
        return weather

    def running(self, name: str) -> Running:
        """Return the latest process of a service."""
        return self._running[name]

    def stop_v2(self) -> None:
        """Have no V2."""
        running = self._running.get("v2")
        if running is not None and running.process.poll() is None:
            running.stop(signal.SIGKILL)

    def _start(self, name: str, port: int, *options: str) -> Running:
        running = self._running.get(name)
        if running is None or running.process.poll() is not None:
            running = self._running[name] = self._starter.start(name, *options, port=port)
        return running


@dataclass
class Site:
    """Ports, plan file and processes of one test."""

    folder: Path
    services: Services
    listen: int = field(default_factory=free_port)
    serving: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        shutil.copytree(ROOT / "plans" / "cohorts", self.folder / "cohorts")
        text = (ROOT / "plans" / "trips-v2.yaml").read_text()
        for written, used in ((8100, self.listen), (8101, self.services.v1), (8102, self.services.v2)):
            text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{used}")
        self.plan.write_text(text)

    @property
    def plan(self) -> Path:
        return self.folder / "plan.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def home(self) -> Path:
        """The rollout's own folder."""
        return self.state / "trips-v2"

    # Crossfade

    def serve(self, *options: str, wait: bool = True, **env: str) -> subprocess.Popen[str]:
        command = [*PROGRAM, "serve", str(self.plan), "--state", str(self.state), "--api-port", "0", *options]
        with (self.folder / "serve.log").open("a") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, text=True, env={**os.environ, **env}
            )
        self.serving = process
        if wait:
            control = self.home / "control.json"

            def up() -> bool:
                assert process.poll() is None, self.log()
                return control.exists() and json.loads(control.read_text())["pid"] == process.pid

            until("serve is up", up)
        return process

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.serving is not None
        self.serving.send_signal(number)
        return self.serving.wait(20)

    def crossfade(self, *arguments: str, code: int = 0) -> str:
        """Run a command and return what it printed; fail where it ended otherwise than expected."""
        done = self.program(*arguments)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command, however it ends."""
        return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)

    def verb(self, *arguments: str, code: int = 0) -> str:
        return self.crossfade(*arguments, "--state", str(self.state), code=code)

    def status(self) -> Any:
        return json.loads(self.verb("status", "-o", "json"))

    def events(self) -> list[Any]:
        found: list[Any] = json.loads(self.verb("events", "-o", "json"))
        return found

    def promote_to(self, phase: str) -> None:
        while self.status()["phase"]["name"] != phase:
            self.verb("promote", "--reason", "for the test")

    def proxy_pid(self) -> int:
        return int((self.home / "proxy" / "haproxy.pid").read_text())

    # Clients

    def ask(self, user: str, path: str = "/trips/search", **headers: str) -> tuple[int, str]:
        """Ask once for a trip; return status and the version that answered."""
        connection = HTTPConnection("127.0.0.1", self.listen, timeout=15)
        try:
            connection.request("GET", f"{path}?{QUERY}", headers={"X-User-Id": user, **headers})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, "v2" if b'"weather"' in body else "v1"
        finally:
            connection.close()

    def end(self) -> None:
        """End the controller and its proxy, whatever state they are in."""
        if self.serving is not None and self.serving.poll() is None:
            self.serving.kill()
            self.serving.wait(20)
        if (self.home / "proxy" / "haproxy.pid").exists() and alive(self.proxy_pid()):
            os.kill(self.proxy_pid(), signal.SIGKILL)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has reaped yet has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Clients:
    """Users that ask all the time over kept connections, and count what they get."""

    def __init__(self, site: Site, threads: int = 4) -> None:
        self.site = site
        self.counts: Counter[str] = Counter()
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, more: int, key: str = "answers") -> None:
        """Wait until this many more answers have come."""
        target = self.counts[key] + more
        until(f"{more} more {key}: {dict(self.counts)}", lambda: self.counts[key] >= target)

    def _run(self, number: int) -> None:
        connection = HTTPConnection("127.0.0.1", self.site.listen, timeout=15)
        user = number
        while not self._stop.is_set():
            user = (user + 7) % 2000
            connection = self._ask(connection, f"u{user + 1:04d}")
            self._stop.wait(0.005)
        connection.close()

    def _ask(self, connection: HTTPConnection, user: str) -> HTTPConnection:
        """Ask once; as browsers do, a GET whose kept connection is gone before an answer is asked again, once."""
        for attempt in (1, 2):
            try:
                connection.request("GET", f"/trips/search?{QUERY}", headers={"X-User-Id": user})
                answer = connection.getresponse()
                body = answer.read()
            except (HTTPException, OSError) as error:
                connection.close()
                connection = HTTPConnection("127.0.0.1", self.site.listen, timeout=15)
                if attempt == 2:
                    self.lost.append(repr(error))
                continue
            self.counts["answers"] += 1
            self.counts[str(answer.status)] += 1
            self.counts["v2" if b'"weather"' in body else "v1"] += 1
            break
        return connection


def post(url: str, token: str, body: dict[str, object]) -> int:
    """Post to the control API; return the status."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
