"""Real processes of the reference service on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_S = 30.0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    elapsed_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def facts(self) -> dict[str, str]:
        """The fact header, read by hand: `a=1, b=c`."""
        said = self.headers.get("crossfade-facts", "")
        return dict(part.split("=", 1) for part in said.split(", ")) if said else {}


def get(url: str, timeout_s: float = 10.0, method: str = "GET", body: object = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    begun = time.perf_counter()  # noqa: TID251 -- what is tested is time
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as got:
            status, headers, content = got.status, got.headers, got.read()
    except urllib.error.HTTPError as error:
        status, headers, content = error.code, error.headers, error.read()
    elapsed_s = time.perf_counter() - begun  # noqa: TID251
    return Answer(status, {k.lower(): v for k, v in headers.items()}, content, elapsed_s)


@dataclass
class Running:
    """One started process."""

    process: subprocess.Popen[bytes]
    port: int
    stderr: Path
    command: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def control(self, **state: Any) -> Any:
        answer = get(f"{self.url}/control", method="PUT", body=state)
        assert answer.status == 200, answer.body
        return answer.json

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_S  # noqa: TID251
        while time.monotonic() < deadline:  # noqa: TID251
            assert self.process.poll() is None, self.stderr.read_text()
            with contextlib.suppress(OSError):
                if get(f"{self.url}/readyz").status == 200:
                    return
            time.sleep(0.05)  # noqa: TID251
        raise AssertionError(f"not ready in {START_S} s: {self.stderr.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(15)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stderr.read_text().splitlines() if line.startswith("{")]


class Starter:
    """Starts processes and ends every one of them."""

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.folder = folder
        self.data_dir = data_dir
        self.started: list[Running] = []

    def start(
        self,
        service: str,
        *options: str,
        port: int | None = None,
        ready: bool = True,
        module: str = "tripsearch",
        **env: str,
    ) -> Running:
        port = port or free_port()
        stderr = self.folder / f"{service}-{len(self.started)}.log"
        command = [sys.executable, "-m", module, service, "--port", str(port), *options]
        with stderr.open("wb") as log:
            process = subprocess.Popen(
                command, stderr=log, env={**os.environ, "TRIPSEARCH_DATA_DIR": str(self.data_dir), **env}
            )
        running = Running(process, port, stderr, command)
        self.started.append(running)
        if ready:
            running.wait_ready()
        return running

    def stop_all(self) -> None:
        for running in self.started:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait(15)


@contextlib.contextmanager
def starter(folder: Path, data_dir: Path) -> Iterator[Starter]:
    made = Starter(folder, data_dir)
    try:
        yield made
    finally:
        made.stop_all()
