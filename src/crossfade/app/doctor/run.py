"""Carrying checks out: side by side, each with its own time, none able to hinder another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crossfade.adapters.system import SystemClock
from crossfade.app.doctor import kept, machine, running
from crossfade.app.doctor.finding import Check, Finding, Installation, Seen, Status, skip

OF_THE_MACHINE = (
    Check("packages", machine.packages),
    Check("extras", machine.extras),
    Check("haproxy", machine.haproxy),
    Check("open files", machine.open_files),
    Check("disk", machine.disk),
    Check("state", machine.state_folder),
    Check("tokens", machine.tokens),
)
OF_A_PLAN = (
    Check("plan", kept.plan),
    Check("notices", kept.notices),
    Check("upstreams", kept.upstreams, 60.0),
    Check("port", kept.port),
)
OF_A_FOLDER = (
    Check("files", kept.files),
    Check("store", kept.store, 30.0),
    Check("started from", kept.started_from),
    Check("lease", kept.lease),
    Check("controller", running.controller),
    Check("exposure", running.exposure),
    Check("certificate", running.certificate),
    Check("proxy", running.proxy),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One finding of one check."""

    rollout: str
    """Empty where it is of the machine."""
    check: str
    finding: Finding


def examine(installation: Installation) -> Iterator[Line]:
    """Yield what all checks find, in their order."""
    yield from carried_out("", OF_THE_MACHINE, installation)
    for subject in installation.subjects:
        there = subject.folder.is_dir()
        yield from carried_out(subject.name, OF_A_PLAN + (OF_A_FOLDER if there else ()), subject)
        if not there:
            yield Line(subject.name, "files", skip(f"nothing was served yet from {subject.folder}"))


def carried_out(rollout: str, checks: Sequence[Check[Seen]], seen: Seen) -> Iterator[Line]:
    """Yield what each check finds; what goes on for too long is left to end with the process."""
    clock = SystemClock()
    began = clock.monotonic()
    findings: list[list[Finding]] = [[] for _ in checks]
    threads = [
        threading.Thread(target=_look, args=(check, seen, found), name=check.name, daemon=True)
        for check, found in zip(checks, findings, strict=True)
    ]
    for thread in threads:
        thread.start()
    for check, thread, found in zip(checks, threads, findings, strict=True):
        thread.join(max(0.0, began + check.timeout_s - clock.monotonic()))
        told = list(found)
        if thread.is_alive():
            told.append(skip(f"could not look: not within {check.timeout_s:g} s"))
        for finding in told:
            yield Line(rollout, check.name, finding)


def _look(check: Check[Seen], seen: Seen, found: list[Finding]) -> None:
    try:
        for finding in check.look(seen):
            found.append(finding)  # noqa: PERF402 - one after the other: what was found before a fault stays
    except Exception as error:  # noqa: BLE001 - whatever one check meets is no other's business, and is told
        found.append(skip(f"could not look: {str(error) or type(error).__name__}"))


def failed(lines: Sequence[Line]) -> bool:
    """Tell whether something is wrong."""
    return any(line.finding.status is Status.FAIL for line in lines)
