"""`ports.Proxy` for one HAProxy on this machine."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from crossfade.adapters.haproxy.attendance import Attendance, alone_s, died_alone
from crossfade.adapters.haproxy.process import (
    LOG,
    Process,
    check,
    connections_max,
    ensure_port_free,
    find_binary,
    started_at,
    syslog_socket,
    take_listener,
)
from crossfade.adapters.haproxy.render import (
    BY_ITSELF,
    COHORT_MAP,
    CONFIG,
    EXEMPT_MAP,
    GENERATION,
    INT_MAP,
    KILL,
    RETIRED,
    RETIRED_MAP,
    ROLLBACKS,
    ROLLED_BACK,
    WATCHED,
    WATCHER,
    Rendered,
    Tuning,
    cohort_entries,
    render,
    render_cohorts,
)
from crossfade.adapters.haproxy.runtime import PID, Runtime
from crossfade.adapters.haproxy.state import (
    THROWN,
    Maps,
    decode,
    encode,
    exempt_entries,
    floor,
    initial,
    parse_exempt,
    read_files,
    read_retired,
    rises,
    rolled_back,
    share_keys,
    steps,
    write_atomically,
    write_exempt,
    write_files,
    write_retired,
)
from crossfade.core.plan import Plan
from crossfade.errors import (
    CrossfadeError,
    ProxyError,
    ProxyRefusedError,
    ProxyUnreachableError,
    ReadBackError,
    StaleGenerationError,
)
from crossfade.ports import Clock, NodeState, ProxyState

_log = logging.getLogger(__name__)

_READY_S = 10.0
_READY_POLL_S = 0.005
_RESTART_PAUSES_S = (0.0, 0.1, 0.5, 2.0)  # a proxy that dies at once is not started in a loop


class HaproxyProxy:
    """HAProxy, configured from a plan, with everything it needs in one directory.

    The process is detached: it serves on when the controller dies, and a later controller adopts it. When the
    process dies it is started again at once with the last split, and clients wait in the meantime.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        *,
        collector: str,
        clock: Clock,
        listen: str | None = None,
        tuning: Tuning | None = None,
        binary: str | None = None,
        node: str = "haproxy",
        grace_s: float = 5.0,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self.collector = collector
        """Host and port that the proxy reports to, from its next start on."""
        self._clock = clock
        self._listen = listen
        self._tuning = tuning or Tuning()
        self._binary = binary
        self._node = node
        self._grace_s = grace_s
        self._runtime = Runtime(directory)
        self.attendance = Attendance(directory, clock, plan.unattended.after_s)
        self._rendered: Rendered | None = None
        self._process: Process | None = None
        self._held: socket.socket | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._lifecycle = asyncio.Lock()
        self._applying = asyncio.Lock()
        self._enrolling = asyncio.Lock()
        self._enrolled: Mapping[int, str] = {}
        self.restarts = 0
        """How often a dead HAProxy was started again."""

    async def start(self) -> None:
        """Adopt the running proxy, or start one; see `ports.Proxy`."""
        async with self._lifecycle:
            if self._process is not None and self._process.alive:
                return
            allowed = connections_max(self._tuning.connections_max)
            tuning = replace(self._tuning, connections_max=allowed, syslog=syslog_socket())
            rendered = render(self._plan, collector=self.collector, listen=self._listen, tuning=tuning)
            self._rendered = rendered
            self._binary = self._binary or find_binary()
            running = await self._running()
            self._prepare(rendered, await self._thrown() if running else None)
            self.attendance.alone_s = await self._unattended() if running else None
            await self._attend()
            if running is not None and running[1] == rendered.digest:
                await self._adopt(running[0], rendered)
            else:
                await self._launch(rendered, running[0] if running else None)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="haproxy watcher")

    async def ensure_running(self) -> bool:
        """Start a dead HAProxy again with the state from its files; True where that was needed.

        Cheap to call where it runs. Raises ProxyRefusedError where it does not come up.
        """
        async with self._lifecycle:
            if self._rendered is None or (self._process is not None and self._process.alive):
                return False
            if self._process is not None:
                self._process.release()
                self._process = None
            if (running := await self._running()) is not None:
                self._process = Process.adopt(running[0])  # another controller has put its own in place
                return False
            self._prepare(self._rendered, None)
            await self._spawn(self._rendered, None)
            self.restarts += 1
            _log.warning("the proxy had died and was started again", extra={"node": self._node})
            return True

    async def apply(self, wanted: ProxyState) -> Sequence[NodeState]:
        """Set the complete state and read it back; see `ports.Proxy`.

        After a rollback switch was thrown, actors that can't know of it get StaleGenerationError: those with the
        rollback's generation or an earlier one, and, where it was thrown without one, with the next.
        """
        async with self._applying:
            cohorts = tuple(self._plan.assignment.cohorts)
            try:
                old = await self._runtime.maps()
            except ProxyUnreachableError as error:
                self._lower_files(wanted, cohorts, error)
                raise
            _refuse_stale(old, wanted)
            new = self._encoded(wanted, cohorts, old)
            file_error = self._write_floor(old, new)
            if new.exempt != old.exempt:  # before a brownout begins
                await self._runtime.replace(EXEMPT_MAP, exempt_entries(new.exempt))
            await self._runtime.set(steps(old, new))
            now = await self._runtime.maps()
            await self._yield_to_others(old, now, new)
            if decode(now) != wanted:
                raise ReadBackError(f"the proxy was set to {wanted} and reads {decode(now)}")
            if file_error is None:
                await self._write_raised(old, new)
            else:
                raise ProxyError(
                    f"the proxy is set, but its files in {self._directory} could not be written "
                    f"({file_error.strerror}): restarted it would come back with the old split; make room"
                ) from file_error
            return [await self._node_state(now)]

    async def observe(self) -> Sequence[NodeState]:
        """Return what the proxy reports now; never raises."""
        try:
            node = await self._node_state(await self._runtime.maps())
            alone, self.attendance.alone_s = self.attendance.alone_s, None
            return [node if alone is None else replace(node, unattended_s=max(alone, node.unattended_s or 0.0))]
        except ProxyUnreachableError as error:
            return [NodeState(node=self._node, reachable=False, error=str(error))]
        except CrossfadeError as error:
            return [NodeState(node=self._node, reachable=True, error=str(error))]

    async def enrol(self, cohorts: Mapping[int, str]) -> None:
        """Have users in other cohorts than the plan says, file first; see `ports.Proxy`."""
        unknown = sorted(set(cohorts.values()) - set(self._plan.assignment.cohorts) - {""})
        if unknown:
            raise ProxyRefusedError(f"cohort {unknown[0]!r} is not in the plan")
        self._enrolled = dict(cohorts)
        if self._rendered is None or not self._plan.assignment.cohorts:
            return
        file_error: OSError | None = None
        async with self._enrolling:
            entries = self._members()
            try:
                write_atomically(self._directory / COHORT_MAP, render_cohorts(entries))
            except OSError as error:  # a full disk is no reason to leave users where they are
                file_error = error
            await self._runtime.replace(COHORT_MAP, entries)
        if file_error is not None:
            raise ProxyError(
                f"the proxy is set, but its file {self._directory / COHORT_MAP} could not be written "
                f"({file_error.strerror}): make room"
            ) from file_error

    def _members(self) -> list[tuple[str, str]]:
        return cohort_entries(self._plan.assignment, self._enrolled)

    async def stop(self) -> None:
        """End the process, finishing its clients first; see `ports.Proxy`."""
        await self._stop_watching()
        await self.attendance.close()
        async with self._lifecycle:
            if self._process is None and (running := await self._running()) is not None:
                with suppress(ProcessLookupError):
                    self._process = Process.adopt(running[0])
            self._drop_held()  # or new clients would wait for a proxy that never comes
            await self._runtime.close()
            self._rendered = None
            if self._process is not None:
                await self._process.end(self._grace_s)
                self._process = None
            with suppress(OSError):
                (self._directory / PID).unlink()

    async def close(self) -> None:
        """Let go of the process; it goes on serving."""
        await self._stop_watching()
        await self.attendance.close()
        async with self._lifecycle:
            self._rendered = None
            await self._runtime.close()
            self._drop_held()
            if self._process is not None:
                self._process.release()
                self._process = None

    # Starting

    def _prepare(self, rendered: Rendered, thrown: Maps | None) -> None:
        """Write what HAProxy reads beside its configuration; damaged state means everyone on V1.

        `thrown` is what a running proxy holds: a switch that was thrown there, and could not write it, stays thrown.
        """
        base = initial(rendered.cohorts)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._directory / COHORT_MAP, render_cohorts(self._members()))
            self._prepare_exempt()
            try:
                found = read_files(self._directory)
                ints = {**base.ints, **{key: value for key, value in found.ints.items() if key in base.ints}}
                found = Maps(ints=ints, headers={**base.headers, **found.headers}, retired=found.retired)
                decode(found)
                found = self._with_switches(found, thrown)
            except FileNotFoundError:
                found = base
            except ReadBackError as error:
                _log.error("the proxy's state files are damaged: everyone is put on V1 (%s)", error)
                found = Maps(ints={**base.ints, KILL: 1}, headers=base.headers, retired=self._retired_on_disk())
            write_files(self._directory, found)
            if not found.retired:
                write_retired(self._directory, retired=False)  # there, and readable
        except OSError as error:
            raise ProxyRefusedError(
                f"the proxy's directory {self._directory} can't be used: {error.strerror or error}"
            ) from error

    def _prepare_exempt(self) -> None:
        """Have a readable map of exempt clients; a damaged one exempts nobody until the controller says who is."""
        path = self._directory / EXEMPT_MAP
        try:
            parse_exempt(path.read_text())
        except FileNotFoundError:
            write_exempt(self._directory, ())
        except (ReadBackError, UnicodeDecodeError) as error:
            _log.error("the file of exempt clients is damaged: nobody is, until the register is read (%s)", error)
            write_exempt(self._directory, ())

    def _with_switches(self, found: Maps, thrown: Maps | None) -> Maps:
        """Return the state on disk with everyone on V1 where a proxy has put them there and could not write it."""
        if found.retired:
            return found  # whoever threw one has moved nobody
        if thrown is not None:
            return _heeding(found, thrown)
        if self._plan.unattended.rollback and died_alone(self._directory / LOG):
            _log.error("the proxy had found itself without a controller when it ended: everyone is put on V1")
            return rolled_back(found, None, by_itself=True)
        return found

    def _retired_on_disk(self) -> bool:
        with suppress(ReadBackError):
            return read_retired(self._directory)
        return False

    async def _thrown(self) -> Maps | None:
        with suppress(CrossfadeError):
            return await self._runtime.maps()
        return None

    async def _attend(self) -> None:
        try:
            await self.attendance.start()
        except OSError as error:
            raise ProxyRefusedError(
                f"the proxy's directory {self._directory} can't be used: {error.strerror or error}"
            ) from error

    async def _unattended(self) -> float | None:
        """Return for how long the proxy itself says that nobody looks after it; None where somebody does."""
        with suppress(CrossfadeError):
            return alone_s(await self._runtime.ask(f"show servers state {WATCHED}"))
        return None  # an older configuration

    async def _heed_switches(self) -> None:
        """Put everyone on V1 where a switch was thrown that this process did not see: it had read the files before."""
        try:
            disk, memory = read_files(self._directory), await self._runtime.maps()
        except (OSError, CrossfadeError) as error:
            _log.error("whether a rollback was missed can't be told: %s", error)
            return
        heeded = _heeding(memory, disk)
        if heeded is not memory:
            _log.warning("a rollback had come while the proxy was started: everyone is put on V1")
            keys = (KILL, *THROWN, GENERATION, *share_keys(heeded.ints))
            await self._runtime.set([(INT_MAP, key, str(heeded.ints[key])) for key in keys])

    async def _running(self) -> tuple[int, str] | None:
        """Return pid and configuration digest of the HAProxy that answers in our directory."""
        try:
            info = await self._runtime.info()
            return int(info["Pid"]), info.get("description", "")
        except (CrossfadeError, KeyError, ValueError):
            return None

    async def _adopt(self, pid: int, rendered: Rendered) -> None:
        self._process = Process.adopt(pid)
        self._held = take_listener(self._directory, rendered.listen, pid)
        if rendered.cohorts:
            await self._runtime.replace(COHORT_MAP, self._members())
        await self._heed_switches()
        _log.info("adopted the running proxy", extra={"node": self._node, "pid": pid})

    async def _launch(self, rendered: Rendered, running: int | None) -> None:
        """Check the configuration, then start it in place of the running one, if any."""
        assert self._binary is not None  # noqa: S101 - start() has set it
        candidate = f"candidate-{CONFIG}"
        try:
            write_atomically(self._directory / candidate, rendered.config)
            await check(self._binary, self._directory, candidate)
            if running is None and self._held is None:
                ensure_port_free(rendered.listen)
            write_atomically(self._directory / CONFIG, rendered.config)
        finally:
            (self._directory / candidate).unlink(missing_ok=True)
        await self._spawn(rendered, running)

    async def _spawn(self, rendered: Rendered, running: int | None) -> None:
        assert self._binary is not None  # noqa: S101 - start() has set it
        await self._runtime.close()
        process = Process.start(self._binary, self._directory, listen=rendered.listen, held=self._held, replace=running)
        self._process = process
        deadline = self._clock.monotonic() + _READY_S
        while (answer := await self._running()) is None or answer[0] != process.pid:
            if not process.alive or self._clock.monotonic() > deadline:
                process.send(9)
                raise ProxyRefusedError(self._why_not_up())
            await self._runtime.close()
            await self._clock.sleep(_READY_POLL_S)
        # A switch writes the files and then looks which process there is; we the other way round: one sees the other.
        write_atomically(self._directory / PID, f"{process.pid}\n")
        await self._heed_switches()
        with suppress(CrossfadeError):  # until the first answer a single silence would count as all of them
            await self._runtime.do(f"set server {WATCHED}/{WATCHER} health up")
        if self._held is None:
            self._held = take_listener(self._directory, rendered.listen, process.pid)

    def _why_not_up(self) -> str:
        log = self._directory / "haproxy.log"
        lines = [line for line in log.read_text(errors="replace").splitlines() if "ALERT" in line]
        return f"HAProxy did not come up: {lines[0] if lines else f'see {log}'}"

    # Staying up

    async def _watch(self) -> None:
        """Start the process again whenever it ends."""
        failures = 0
        while True:
            process = self._process
            if process is not None and process.alive:
                began = self._clock.monotonic()
                await process.ended()
                failures = 0 if self._clock.monotonic() - began > _RESTART_PAUSES_S[-1] else failures + 1
            await self._clock.sleep(_RESTART_PAUSES_S[min(failures, len(_RESTART_PAUSES_S)) - 1] if failures else 0.0)
            try:
                await self.ensure_running()
            except (CrossfadeError, OSError) as error:
                failures += 1
                _log.error("the proxy could not be started again: %s", error, extra={"node": self._node})

    async def _stop_watching(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    def _drop_held(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    # Applying

    def _encoded(self, wanted: ProxyState, cohorts: tuple[str, ...], old: Maps) -> Maps:
        clock, until = self._clock, wanted.brownout.until if wanted.brownout else 0
        return encode(wanted, cohorts, old.ints, ends=round((until - clock.plan_time(0.0)) / clock.speed))

    def _lower_files(self, wanted: ProxyState, cohorts: tuple[str, ...], reason: ProxyUnreachableError) -> None:
        """Write the state for a proxy that can't be asked, where it raises nobody to V2."""
        try:
            disk = read_files(self._directory)
        except (OSError, ReadBackError) as error:
            raise reason from error
        _refuse_stale(disk, wanted)
        new = self._encoded(wanted, cohorts, disk)
        if not rises(disk, new):
            with suppress(OSError):
                write_exempt(self._directory, new.exempt)
                write_files(self._directory, new)

    def _write_floor(self, old: Maps, new: Maps) -> OSError | None:
        """Write what is safe before memory changes; where nobody rises, a full disk is no reason to stop."""
        try:
            if new.exempt != old.exempt:
                write_exempt(self._directory, new.exempt)
            write_files(self._directory, floor(old, new))
        except OSError as error:
            if rises(old, new):
                raise ProxyError(
                    f"nothing was changed: the proxy's files in {self._directory} can't be written "
                    f"({error.strerror}); make room"
                ) from error
            return error
        return None

    async def _write_raised(self, old: Maps, new: Maps) -> None:
        """Write the new state after memory has it, unless a rollback came in between."""
        try:
            write_files(self._directory, new)
        except OSError as error:
            raise ProxyError(f"the proxy's files in {self._directory} can't be written: {error.strerror}") from error
        if rises(old, new):
            await self._yield_to_others(old, await self._runtime.maps(), new)

    async def _yield_to_others(self, old: Maps, now: Maps, new: Maps) -> None:
        """Where someone acted while we did, take back what we may have raised and raise StaleGenerationError."""
        if old.retired or (new.retired and now.generation > new.generation):
            if now.generation <= new.generation:
                return  # whoever threw a switch has moved nobody
            raise StaleGenerationError(f"generation {now.generation} acted while {new.generation} was being applied")
        # a switch kills first and counts then
        thrown = now.ints.get(ROLLBACKS) != old.ints.get(ROLLBACKS) or (now.killed and not new.killed)
        if not thrown and now.generation <= new.generation:
            return
        if new.retired:
            await self._runtime.set([(RETIRED_MAP, RETIRED, "0")])
            write_retired(self._directory, retired=False)
        if not new.killed:
            zero = {**now.ints, KILL: 1, **dict.fromkeys(share_keys(now.ints), 0)}
            await self._runtime.set([(INT_MAP, KILL, "1"), *((INT_MAP, key, "0") for key in share_keys(now.ints))])
            write_files(self._directory, Maps(ints=zero, headers=now.headers))
        who = "a rollback was thrown" if thrown else f"generation {now.generation} acted"
        raise StaleGenerationError(f"{who} while generation {new.generation} was being applied; everyone is on V1")

    async def _node_state(self, maps: Maps) -> NodeState:
        info = await self._runtime.info()
        pid = int(info.get("Pid", 0))
        return NodeState(
            node=self._node,
            reachable=True,
            state=decode(maps),
            proxy_version=f"HAProxy {info.get('Version', '')}",
            up_since=started_at(pid),
            rolled_back=maps.ints.get(ROLLED_BACK, -1),
            by_itself=maps.ints.get(BY_ITSELF, -1) == maps.ints.get(ROLLED_BACK, -1) != -1,
            unattended_s=await self._unattended(),
        )


def _heeding(state: Maps, other: Maps) -> Maps:
    """Return `state` with everyone on V1 where `other` knows of a switch that `state` doesn't; else `state` itself."""
    if state.retired or other.ints.get(ROLLBACKS, 0) <= state.ints.get(ROLLBACKS, 0):
        return state
    thrown = {key: other.ints[key] for key in (*THROWN, GENERATION) if key in other.ints}
    nobody = dict.fromkeys(share_keys(state.ints), 0)
    return Maps(ints={**state.ints, **nobody, **thrown, KILL: 1}, headers=state.headers)


def _refuse_stale(old: Maps, wanted: ProxyState) -> None:
    if old.generation > wanted.generation:
        raise StaleGenerationError(
            f"the proxy carries generation {old.generation}; {wanted.generation} is outdated and must stop acting"
        )
    if old.retired and not wanted.retired:
        raise ProxyRefusedError("V1 is retired at this proxy, and nothing brings it back there")
    if wanted.killed or old.retired:
        return
    thrown, latest = old.ints.get(ROLLED_BACK, -1), wanted.generation - 1
    known = latest if wanted.rollback is None else min(wanted.rollback, latest)
    if thrown > known:
        raise StaleGenerationError(
            f"everyone was put on V1 by a rollback that outdated generation {thrown}: generation {wanted.generation}, "
            f"which knows of those up to {known}, may not raise"
        )
