"""What the canary costs at the proxy: requests per second and proxy CPU per request, in interleaved rounds.

    python benchmarks/proxy.py [--rounds N] [--seconds S]

Rows: the same HAProxy plain (one backend, same defaults, one thread); HAProxy as Crossfade configures it for the
shipped plan at 50 %, with cohorts and telemetry going to another process; nginx doing the same work (key chain,
split_clients, cohort map, rewrite, header removal, buffered access log); Caddy weighted, which does less (it is not
sticky and rewrites nothing). Load is wrk with 2,000 users on 64 connections; the origin is nginx. Where there are two
cores the proxy has one for itself and the load the other. Each round runs every row once; a row's ratio is the median
of its ratios to the plain row of the same round. CPU per request is the steadier number: requests per second fall
with whatever else the machine does. Needs wrk and nginx (Debian: `apt-get install wrk nginx`); Caddy is left out
where it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.adapters.haproxy.process import find_binary
from crossfade.adapters.haproxy.render import BIND_VARIABLE, Rendered, render
from crossfade.adapters.haproxy.state import encode, write_files
from crossfade.core.plan import Api, AssignmentRule, ClientsRule, Key, KeySource, Phase, Plan, Upstream
from crossfade.core.split import Split
from crossfade.ports import ProxyState

USERS = 2000
COHORTS = {
    "internal": frozenset(f"staff-{n}" for n in range(30)),
    "beta": frozenset(f"user-{n}" for n in range(1, 501)),
}
SUNSET = "Sat, 01 Jan 2028 00:00:00 GMT"
SINK = (
    "import socket,sys\n"
    "s=socket.create_server(('127.0.0.1',int(sys.argv[1])))\n"
    "while True:\n"
    "    c,_=s.accept()\n"
    "    b=bytearray(1<<20)\n"
    "    try:\n"
    "        while c.recv_into(b): pass\n"
    "    except OSError: pass\n"
)
LOAD = """
local requests, n = {}, 0
function init()
  for user = 1, %d do
    requests[user] = wrk.format("GET", "/trips/search?from=EWR&to=LAX&date=2013-05-01", {
      ["X-User-Id"] = "user-" .. user, ["X-Region"] = "eu-west", ["X-Client-Id"] = "mobile-app",
      ["User-Agent"] = "trip-client/3.1", ["Accept"] = "application/json", ["Accept-Encoding"] = "gzip, deflate"})
  end
end
function request() n = n %% %d + 1; return requests[n] end
"""
ORIGIN = """
worker_processes 1; daemon off; pid {dir}/origin.pid; error_log {dir}/origin.err crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json;
  server {{
    listen 127.0.0.1:{v1} backlog=4096; listen 127.0.0.1:{v2} backlog=4096;
    location / {{
      add_header Crossfade-Facts "flights=1, hotels=1, cache=hit, db=3.1";
      return 200 '{{"flights":[{{"id":"UA1545","from":"EWR","to":"IAH","dep":"05:15"}}],"hotels":[{{"stars":4}}]}}';
    }}
  }}
}}
"""
PLAIN = """
global
  nbthread 1
  maxconn 4096
{defaults}
frontend plain
  bind 127.0.0.1:{port}
  default_backend v1
backend v1
  server v1-1 127.0.0.1:{v1}
"""
NGINX = """
worker_processes 1; daemon off; pid {dir}/canary.pid; error_log {dir}/canary.err crit;
events {{ worker_connections 4096; }}
http {{
  keepalive_requests 1000000000; keepalive_timeout 600s;
  map_hash_max_size 4096; map_hash_bucket_size 128;
  map $cookie_uid $key3 {{ "" $remote_addr; default $cookie_uid; }}
  map $http_x_api_key $key2 {{ "" $key3; default $http_x_api_key; }}
  map $http_x_user_id $key {{ "" $key2; default $http_x_user_id; }}
  map $key $cohort {{ default ""; include {dir}/cohorts.nginx; }}
  split_clients "12345$key" $everyone {{ 50% v2; * v1; }}
  split_clients "12345$key" $beta {{ 50% v2; * v1; }}
  map $cohort $version {{ "" $everyone; beta $beta; internal v2; }}
  log_format telemetry '$connection_requests,$msec,$version,$status,$upstream_header_time,$request_time,$cohort,0,'
    '$key,$http_x_region,$upstream_addr,$upstream_http_crossfade_facts';
  access_log {dir}/access.log telemetry buffer=64k flush=1s;
  upstream v1 {{ server 127.0.0.1:{v1}; keepalive 64; keepalive_requests 1000000000; }}
  upstream v2 {{ server 127.0.0.1:{v2}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_hide_header Crossfade-Facts;
    location /trips/search {{ rewrite ^/trips/search(.*)$ /$version/trips/search$1 break; proxy_pass http://$version; }}
    location / {{ rewrite ^/v[12]/(.*)$ /$version/$1 break; proxy_pass http://$version; }}
  }}
}}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  reverse_proxy 127.0.0.1:{v1} 127.0.0.1:{v2} {{
    lb_policy round_robin
    transport http {{
      keepalive_idle_conns_per_host 64
    }}
  }}
}}
"""


@dataclass(slots=True)
class Row:
    """One proxy and what was measured of it, round by round."""

    name: str
    port: int
    pid: int
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    failures: int = 0


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def shipped_plan(v1: int, v2: int, listen: int, *, secret: str = "", clients: ClientsRule | None = None) -> Plan:
    """Return what the shipped plan makes the proxy do, with our ports; overrides and clients' ids where wanted."""
    header = KeySource.HEADER
    return Plan(
        name="benchmark",
        api=Api(
            entry="/trips/search",
            v1=Upstream(path="/v1/trips/search", upstreams=(f"127.0.0.1:{v1}",)),
            v2=Upstream(path="/v2/trips/search", upstreams=(f"127.0.0.1:{v2}",)),
            listen=f"127.0.0.1:{listen}",
        ),
        assignment=AssignmentRule(
            user=(
                Key(header, "X-User-Id"),
                Key(header, "X-Api-Key"),
                Key(KeySource.COOKIE, "uid"),
                Key(KeySource.ADDRESS),
            ),
            salt=12345,
            client=Key(header, "X-Client-Id"),
            region=Key(header, "X-Region"),
            cohorts=COHORTS,
        ),
        metrics=(),
        phases=(Phase(name="all", split=Split(), target=0, soak_s=0, gates=()),),
        override_secret=secret,
        clients=clients,
    )


class Bench:
    """The processes of one run."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core, self.load_core = {cores[0]}, {cores[-1]}
        self.v1, self.v2 = free_port(), free_port()
        self.skipped: list[str] = []

    def run(self, command: Sequence[str], core: set[int], **options: object) -> int:
        """Start a process on a core and return its pid; it ends with the run."""

        with pinned(core), (self.directory / "errors").open("ab") as errors:
            process = subprocess.Popen(  # type: ignore[call-overload]
                command, cwd=options.pop("cwd", self.directory), stdout=subprocess.DEVNULL, stderr=errors, **options
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        pid: int = process.pid
        return pid

    def write(self, name: str, text: str, **values: object) -> str:
        """Write a configuration file and return its path."""
        path = self.directory / name
        path.write_text(text.format(dir=self.directory, v1=self.v1, v2=self.v2, **values))
        return str(path)

    def origin(self) -> None:
        """Start the service behind every proxy, and the sink beside ours."""
        config = self.write("origin.conf", ORIGIN)
        self.run(["nginx", "-p", str(self.directory), "-c", config], self.load_core)
        (self.directory / "load.lua").write_text(LOAD % (USERS, USERS))

    def plain(self) -> Row:
        """Start the same HAProxy with the same defaults and no rule, no telemetry and no second backend."""
        port = free_port()
        ours = render(shipped_plan(self.v1, self.v2, port), collector="127.0.0.1:1").config
        defaults = ours[ours.index("\ndefaults\n") : ours.index("\nfrontend ")]
        config = self.write("plain.cfg", PLAIN, port=port, defaults=defaults)
        return Row("HAProxy plain", port, self.run([find_binary(), "-db", "-f", config], self.proxy_core))

    def canary(
        self,
        name: str,
        split: Split,
        headers: Mapping[str, str] | None = None,
        secret: str = "",
        clients: ClientsRule | None = None,
    ) -> Row:
        """Start HAProxy as we configure it; `headers` go with V1's answers."""
        port, collector = free_port(), free_port()
        self.run([sys.executable, "-c", SINK, str(collector)], self.load_core)
        rendered: Rendered = render(
            shipped_plan(self.v1, self.v2, port, secret=secret, clients=clients), collector=f"127.0.0.1:{collector}"
        )
        directory = self.directory / f"canary-{port}"
        directory.mkdir()
        (directory / "haproxy.cfg").write_text(rendered.config)
        (directory / "cohort.map").write_text(rendered.cohort_map)
        (directory / "retired.map").write_text("")
        state = ProxyState(generation=1, split=split, v1_headers=headers or {})
        write_files(directory, encode(state, rendered.cohorts, {}))
        wait_for_port(collector)
        command = [find_binary(), "-db", "-f", "haproxy.cfg"]
        return Row(name, port, self.run(command, self.proxy_core, cwd=directory, env={BIND_VARIABLE: rendered.listen}))

    def nginx(self) -> Row:
        """Start nginx doing the same work."""
        port = free_port()
        members = "".join(f"{user} {name};\n" for name, users in COHORTS.items() for user in sorted(users))
        (self.directory / "cohorts.nginx").write_text(members)
        config = self.write("canary.conf", NGINX, port=port)
        pid = self.run(["nginx", "-p", str(self.directory), "-c", config], self.proxy_core)
        return Row("nginx split_clients, access log", port, pid)

    def caddy(self) -> Row | None:
        """Start Caddy with two upstreams of the same weight, which Debian's release can only write as a round."""
        caddy = shutil.which("caddy")
        if caddy is None:
            self.skipped.append("Caddy (Debian: `apt-get install caddy`)")
            return None
        port = free_port()
        config = self.write("Caddyfile", CADDY, port=port)
        home = {"HOME": str(self.directory), "GOMAXPROCS": "1", "PATH": os.environ["PATH"]}
        command = [caddy, "run", "--config", config, "--adapter", "caddyfile"]
        return Row("Caddy weighted 1:1 (not sticky)", port, self.run(command, self.proxy_core, env=home))

    def measure(self, row: Row, seconds: int) -> None:
        """Load one proxy and note its rate and its CPU per request."""
        before = cpu_seconds(row.pid)
        command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", "load.lua", f"http://127.0.0.1:{row.port}"]
        with pinned(self.load_core):
            done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=True)
        spent = cpu_seconds(row.pid) - before
        row.rates.append(float(number(r"Requests/sec:\s+([\d.]+)", done.stdout)))
        row.cpu_us.append(spent / float(number(r"(\d+) requests in", done.stdout)) * 1e6)
        for text in re.findall(r"Non-2xx or 3xx responses: (\d+)|(?:read|write|timeout) (\d+)", done.stdout):
            row.failures += sum(int(part) for part in text if part)


@contextlib.contextmanager
def pinned(core: set[int]) -> Iterator[None]:
    """Run here what is started meanwhile: a child inherits where it may run."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def number(pattern: str, text: str) -> str:
    """Return what a pattern finds in wrk's report."""
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said nothing of use:\n{text}")
    return match[1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its children."""
    total = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(entry.name) == pid or int(fields[1]) == pid:
                total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def wait_for_port(port: int) -> None:
    """Return once somebody listens."""
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)  # noqa: TID251 - a process takes a moment to come up
    raise RuntimeError(f"nothing came up at port {port}")


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Give a run its directory and end its processes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        Path(name).chmod(0o755)
        try:
            yield Bench(Path(name), stack)
        except RuntimeError as error:
            raise SystemExit(f"{error}: {(Path(name) / 'errors').read_text()}") from error


def ratio(row: Row, base: Row, values: Callable[[Row], list[float]]) -> float:
    """Return the median of a row's ratios to the base, round by round."""
    return statistics.median(a / b for a, b in zip(values(row), values(base), strict=True))


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=int, default=2)
    chosen = options.parse_args()
    missing = [name for name in ("wrk", "nginx") if shutil.which(name) is None]
    if missing:
        print(f"skipped: {' and '.join(missing)} missing; `apt-get install wrk nginx` enables this benchmark")
        return
    with bench() as run:
        run.origin()
        half = Split(everyone=5000, cohorts={"internal": 10_000})
        strict = ClientsRule(authenticated=True, believed_from=("127.0.0.0/8",), by_agent=True)
        made = [
            run.plain(),
            run.canary("HAProxy, full canary + telemetry, 50 %", half),
            run.canary("HAProxy, the same with a ledger of clients", half, clients=ClientsRule()),
            run.canary("HAProxy, the same, ids from a gateway, else User-Agent", half, clients=strict),
            run.canary("HAProxy, without clients at 100 %", Split(everyone=10_000)),
            run.canary("HAProxy, 50 %, V1 headers and overrides on", half, {"Sunset": SUNSET}, "not-so-secret"),
            run.nginx(),
            run.caddy(),
        ]
        rows = [row for row in made if row is not None]
        for row in rows:
            wait_for_port(row.port)
        for _ in range(chosen.rounds):
            for row in rows:
                run.measure(row, chosen.seconds)
        skipped = run.skipped
    plain = rows[0]
    print(
        f"\n{chosen.rounds} interleaved rounds of {chosen.seconds} s, 64 connections, {USERS} users, one proxy thread\n"
    )
    print("| proxy | requests/s | ratio | CPU µs/request | ratio | requests per CPU second | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        rate, cpu = statistics.median(row.rates), statistics.median(row.cpu_us)
        print(
            f"| {row.name} | {rate:,.0f} | {ratio(row, plain, lambda r: r.rates):.2f} | {cpu:.1f} | "
            f"{ratio(row, plain, lambda r: r.cpu_us):.2f} | {1e6 / cpu:,.0f} | {row.failures} |"
        )
    for name in skipped:
        print(f"\nskipped: {name}")


if __name__ == "__main__":
    main()
