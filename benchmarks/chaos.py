"""Kill and stop everything at random times under load, and count the answers that were lost or wrong.

    python benchmarks/chaos.py [--seconds 300] [--seed N] [--database sqlite|postgresql]

A whole migration on this machine, each part a process of its own: HAProxy, V1, V2, weather, two `crossfade serve` (the
collector is in them; one leads, one follows), and PostgreSQL where it is asked for. Users ask over kept connections all
the time; as browsers do, they ask a GET whose connection broke before an answer once more. At seeded times something
is killed (SIGKILL) and started again as a supervisor would, or stopped (SIGSTOP) and let go on. An operator says
`retry` where the rollout was rolled back. Then the faults end, and the rollout has to complete.

An answer is **wrong** where its version is none that its user could have been given while it was under way, by the
plan's assignment and the history's events; V1 may stand in for V2 while V2 or the proxy is away. An answer is **lost**
where it is an error or none came. A killed V1 or V2 takes along what it was answering, and nothing stands in for a dead
V1: what is lost while one of them is being killed and started again is counted apart, and everything else must be 0.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.site import QUERY, Services, Site, alive, now, until
from tests.tripsearch.running import starter

from crossfade.adapters.system import ScaledClock
from crossfade.app.client import Client, local_target
from crossfade.app.control import read_control
from crossfade.app.demo.processes import free_ports
from crossfade.app.planfile import load_plan
from crossfade.core.plan import Plan
from crossfade.core.split import Split, Version, assign
from crossfade.errors import CrossfadeError

LEASE_S = 2.0
PLAN_S = 85 * 60.0
"""Of the phases below."""
PHASES = """
phases:
  - {name: internal, split: 0%, cohort: internal, soak: 15m}
  - {name: canary, split: 10%, cohort: beta, soak: 15m, promote when: [rollback ready]}
  - {name: half, split: 50%, soak: 20m}
  - {name: most, split: 90%, soak: 20m}
  - {name: full, split: 100%, soak: 15m}
"""
SLACK_S = 0.5
"""Between an event and the moment at which it was true of every request."""
KINDS = ("controller", "proxy", "V1", "V2", "database")
FATAL = ("kill V1", "kill V2")
"""Faults in which no proxy can keep every answer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a part, from its beginning until the part was whole again (plan time)."""

    what: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a user."""

    user: str
    sent: float
    done: float
    status: int
    """0 where no answer came."""
    version: str

    def during(self, began: float, ended: float) -> bool:
        return self.sent <= ended and self.done >= began


@dataclass(slots=True)
class Report:
    """What came of it."""

    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    completed: bool = False
    speed: float = 1.0
    """Plan seconds per real second."""

    @property
    def slack(self) -> float:
        return SLACK_S * self.speed

    def lost(self) -> tuple[Counter[str], list[Asked]]:
        """Return how many answers were lost to which fatal fault, and those that none explains."""
        by, unexplained = Counter[str](), []
        for asked in self.asked:
            if asked.status == 200:
                continue
            fault = self._around(asked, FATAL)
            if fault is None:
                unexplained.append(asked)
            else:
                by[fault.what] += 1
        return by, unexplained

    def wrong(self, plan: Plan) -> list[Asked]:
        """Return the answers whose version their users can't have been given."""
        spans = _spans(plan, self.events, self.speed)
        return [asked for asked in self.asked if asked.status == 200 and not self._right(plan, spans, asked)]

    def _right(self, plan: Plan, spans: Sequence[tuple[float, float, Split]], asked: Asked) -> bool:
        rule = plan.assignment
        for began, ended, split in spans:
            if asked.during(began, ended):
                given = assign(asked.user, salt=rule.salt, split=split, cohort=rule.cohort_of(asked.user))
                if given.version.value == asked.version:
                    return True
        standing_in = self._around(asked, ("kill V2", "stop V2", "kill proxy", "stop proxy"))
        return asked.version == Version.V1.value and standing_in is not None

    def _around(self, asked: Asked, kinds: Sequence[str]) -> Fault | None:
        return next(
            (f for f in self.faults if f.what in kinds and asked.during(f.began, f.ended + self.slack)),
            None,
        )


def _spans(plan: Plan, events: Sequence[Mapping[str, Any]], speed: float) -> list[tuple[float, float, Split]]:
    """Return (from, until, split): from each intent until the one after it was confirmed.

    A rollback is made before it is recorded, so its span begins as much earlier as it took.
    """
    begun: list[tuple[float, float, Split]] = []
    slack = SLACK_S * speed
    for number, event in enumerate(events):
        kind, data = event["kind"], event["data"]
        if kind == "RolloutStarted":
            split = plan.phases[0].split
        elif kind in ("PhasePromoted", "Retried"):
            split = plan.phases[data["phase"]].split
        elif kind == "RolledBack":
            split = Split()
        else:
            continue
        early = data.get("took_s", 0.0) * speed
        confirmed = next((e["at"] for e in events[number:] if e["kind"] == "SplitApplied"), float("inf"))
        begun.append((event["at"] - early - slack, confirmed + slack, split))
    ends = [confirmed for _, confirmed, _ in begun[1:]] + [float("inf")]
    return [(began, end, split) for (began, _, split), end in zip(begun, ends, strict=True)]


class Postgres:
    """A server of our own, on a free port, in a folder of its own."""

    def __init__(self, port: int | None = None) -> None:
        folder = Path(tempfile.mkdtemp(prefix="crossfade-pg-"))
        self._user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self._folder, self._data, self._ctl = folder, folder / "data", programs / "pg_ctl"
        self._port = port or free_ports(1)[0]
        if self._user:
            shutil.chown(folder, "nobody")
        self._run(programs / "initdb", "-D", self._data, "-U", "crossfade", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        self._run(programs / "createdb", "-h", "127.0.0.1", "-p", self._port, "-U", "crossfade", "rollouts")
        self.url = f"postgresql://crossfade@127.0.0.1:{self._port}/rollouts"

    def _run(self, *command: object) -> None:
        assert self._ended(*command) == 0, command

    def _ended(self, *command: object) -> int:
        arguments = [*self._user, *(str(part) for part in command)]
        nowhere = subprocess.DEVNULL
        return subprocess.run(arguments, stdout=nowhere, stderr=nowhere, cwd="/", check=False).returncode

    def start(self) -> None:
        """Start the server, which first repairs what a kill has left."""
        lock = self._data / "postmaster.pid"
        if lock.exists():  # where nobody has reaped the process yet, the server takes it for a living one
            until("the server has ended", lambda: not alive(self._pid()))
            lock.unlink()
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder}"
        start = (self._ctl, "-D", self._data, "-l", self._folder / "log", "-w", "-t", "60", "-o", options, "start")
        until("the server starts", lambda: self._ended(*start) == 0, 120)  # what was killed lets go of its memory

    def signal(self, number: int) -> None:
        """Send a signal to the server and all of its processes."""
        first = self._pid()
        for pid in (first, *_children(first)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def end(self) -> None:
        """End the server, whatever state it is in."""
        with suppress(OSError):
            self.signal(signal.SIGKILL)
            until("the server has ended", lambda: not alive(self._pid()))
        shutil.rmtree(self._folder)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


class People:
    """Users that ask all the time, and remember each answer."""

    def __init__(self, site: Site, plan_time: Callable[[], float], users: Sequence[str], threads: int) -> None:
        self._site, self._plan_time, self._users = site, plan_time, users
        self._stop = threading.Event()
        self.asked: list[Asked] = []
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Asked]:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.asked

    def _run(self, number: int) -> None:
        connection = self._connection()
        while not self._stop.wait(0.01):
            number = (number + 7) % len(self._users)
            user, sent = self._users[number], self._plan_time()
            status, version = 0, ""
            for _ in range(2):
                try:
                    connection.request("GET", f"/trips/search?{QUERY}", headers={"X-User-Id": user})
                    answer = connection.getresponse()
                    status, body = answer.status, answer.read()
                    version = "v2" if b'"weather"' in body else "v1"
                    break
                except (HTTPException, OSError):
                    status = 0
                    connection.close()
                    connection = self._connection()
            self.asked.append(Asked(user, sent, self._plan_time(), status, version))

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self._site.listen, timeout=30)


class Chaos:
    """The migration, what is done to it, and its operator."""

    def __init__(self, site: Site, postgres: Postgres | None, seed: int, seconds: float) -> None:
        """`seconds` is for how long there are faults: the plan would take four fifths of that without them."""
        self.site, self._postgres, self._seconds = site, postgres, seconds
        self._rng = np.random.default_rng(seed)
        database = postgres.url if postgres else f"sqlite:///{site.folder}/rollouts.db"
        self._speed = PLAN_S / (0.8 * seconds)
        pace = ("--speed", str(self._speed), "--tick", str(0.5 * self._speed), "--lateness", "1")
        self._options = (*pace, "--lease", str(LEASE_S), "--database", database)
        self._serving: list[subprocess.Popen[str]] = []
        self.report = Report(speed=self._speed)

    def start(self) -> None:
        self.site.services.start()
        text = self.site.plan.read_text()
        text = text.replace("returns within: 2d", "returns within: 5m")  # no phase here is longer than 20 minutes
        self.site.plan.write_text(text[: text.index("\nphases:")] + PHASES)
        self._serving = [self.site.serve(*self._options), self.site.serve(*self._options, wait=False)]
        clock = ScaledClock(self._speed, float((self.site.home / "epoch").read_text()))
        self.plan_time = clock.now

    # the operator

    def status(self) -> dict[str, Any]:
        """Return the leader's status; empty where nobody answers."""
        with suppress(CrossfadeError):
            status: dict[str, Any] = self._client().get("")
            return status
        return {}

    def _client(self) -> Client:
        return Client(local_target(read_control(self.site.home)), timeout_s=5.0)

    def look_after(self) -> str:
        """Retry a rollout that was rolled back, once it is confirmed; return its state."""
        status = self.status()
        if status.get("state") == "rolled_back" and status.get("applied"):
            with suppress(CrossfadeError):
                self._client().post("/retry", {"by": "operator", "reason": "V2 is back"})
        return str(status.get("state", ""))

    # faults

    def afflict(self) -> None:
        """Do one thing to one part, and make it whole again."""
        kinds = [kind for kind in KINDS if kind != "database" or self._postgres]
        kind, fatal = str(self._rng.choice(kinds)), bool(self._rng.random() < 0.5)
        lasts_s = float(self._rng.uniform(0.2, 2.5))
        began = self.plan_time()
        recover = self._kill(kind) if fatal else self._freeze(kind)
        _pause(lasts_s)
        recover()
        self.report.faults.append(Fault(f"{'kill' if fatal else 'stop'} {kind}", began, self.plan_time()))

    def _kill(self, kind: str) -> Callable[[], object]:
        if kind == "controller":
            leader = self._leader()
            leader.kill()
            leader.wait(20)
            self._serving.remove(leader)
            return lambda: self._serving.append(self.site.serve(*self._options, wait=False))
        if kind == "proxy":
            os.kill(self.site.proxy_pid(), signal.SIGKILL)
            return lambda: until("the proxy is back", lambda: alive(self.site.proxy_pid()), 60)
        if kind == "database":
            assert self._postgres is not None
            self._postgres.signal(signal.SIGKILL)
            return self._postgres.start
        self._service(kind).kill()
        self._service(kind).wait(20)
        return self.site.services.start

    def _freeze(self, kind: str) -> Callable[[], object]:
        if kind == "database":
            postgres = self._postgres
            assert postgres is not None
            postgres.signal(signal.SIGSTOP)
            return lambda: postgres.signal(signal.SIGCONT)
        pid = self.site.proxy_pid() if kind == "proxy" else None
        process = None if pid else self._leader() if kind == "controller" else self._service(kind)
        frozen = pid or (process.pid if process else 0)
        os.kill(frozen, signal.SIGSTOP)
        return lambda: os.kill(frozen, signal.SIGCONT)

    def _service(self, kind: str) -> subprocess.Popen[bytes]:
        return self.site.services.running(kind.lower()).process

    def _leader(self) -> subprocess.Popen[str]:
        with suppress(CrossfadeError):
            pid = read_control(self.site.home).pid
            return next((p for p in self._serving if p.pid == pid), self._serving[0])
        return self._serving[0]

    # the whole

    def run(self, threads: int) -> Report:
        """Do it; returns when the rollout has completed or can't be waited for any longer."""
        users = [f"u{n:04d}" for n in range(1, 401)]
        people = People(self.site, self.plan_time, users, threads)
        end = now() + self._seconds
        while now() < end:
            _pause(float(self._rng.uniform(0.5, 3.0)))
            self.afflict()
            self.look_after()
        end = now() + 180
        while (state := self.look_after()) != "completed" and now() < end:
            _pause(0.5)
        self.report.asked = people.stop()
        self.report.completed = state == "completed"
        self.report.events = list(self._client().pages("/events?after=0&limit=1000", 100_000))
        return self.report

    def end(self) -> None:
        for process in self._serving:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(20)


@contextmanager
def chaos(folder: Path, database: str, seed: int, seconds: float) -> Iterator[Chaos]:
    """Yield a migration in a folder that has begun, and end all of it."""
    # Below those that outgoing connections take: a part that is down must find its port free when it comes back.
    listen, v1, v2, weather, fifth = free_ports(5)
    postgres = Postgres(fifth) if database == "postgresql" else None
    (folder / "data").mkdir(exist_ok=True)
    with starter(folder, folder / "data") as made:
        (folder / "site").mkdir()
        services = Services(made)
        services.v1, services.v2, services.weather = v1, v2, weather
        site = Site(folder / "site", services, listen=listen)
        found = Chaos(site, postgres, seed, seconds)
        try:
            found.start()
            yield found
        finally:
            found.end()
            site.end()
            if postgres:
                postgres.end()


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - this is about real time


def told(report: Report, plan: Plan) -> str:
    """Return the report as Markdown."""
    lost, unexplained = report.lost()
    wrong = report.wrong(plan)
    faults = Counter(fault.what for fault in report.faults)
    events = Counter(event["kind"] for event in report.events)
    versions = Counter(asked.version for asked in report.asked if asked.status == 200)
    lines = [
        f"{len(report.asked):,} answers ({versions['v1']:,} by V1, {versions['v2']:,} by V2), "
        f"{len(report.faults)} faults; the rollout {'completed' if report.completed else 'DID NOT complete'}",
        "",
        "| what was done | times | answers lost with it |",
        "|---|---:|---:|",
        *(f"| {what} | {count} | {lost[what]} |" for what, count in sorted(faults.items())),
        "",
        f"Lost otherwise: {len(unexplained)}. Wrong: {len(wrong)}.",
        "",
        "Events: " + ", ".join(f"{count} {kind}" for kind, count in sorted(events.items())),
    ]
    lines += [f"LOST {asked}" for asked in unexplained[:10]] + [f"WRONG {asked}" for asked in wrong[:10]]
    return "\n".join(lines)


def main() -> int:
    """Run and print; 1 where an answer was lost or wrong without a reason, or the rollout did not complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crossfade-chaos-") as name:
        folder = Path(name)
        with chaos(folder, options.database, options.seed, options.seconds) as found:
            report = found.run(options.threads)
            plan = load_plan(found.site.plan)
        print(f"{options.seconds:g} s of faults, seed {options.seed}, {options.database}\n")
        print(told(report, plan))
    return int(bool(report.lost()[1] or report.wrong(plan) or not report.completed))


if __name__ == "__main__":
    sys.exit(main())
