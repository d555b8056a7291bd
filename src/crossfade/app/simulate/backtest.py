"""`crossfade backtest`: a plan over a recording, told beside what the recorded rollout did."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from crossfade.app.commands import say
from crossfade.app.planfile import load_plan
from crossfade.app.progress import Progress
from crossfade.core.plan import Plan
from crossfade.core.words import duration, moment
from crossfade.errors import UsageError
from crossfade.simulation.backtest import Backtested, Came, JudgedPhase, Rollback, backtest
from crossfade.simulation.recording import Header, read_recording


def run_backtest(plan_file: Path, recording: Path, output: str) -> None:
    """Carry the plan out over the recording and print what it comes to; UsageError where the file can't be used."""
    plan = load_plan(plan_file)
    try:
        with recording.open("rb") as file, Progress("ticks") as progress:
            header, ticks = read_recording(str(recording), file)
            result = backtest(plan, header, progress.over(ticks))
    except OSError as error:
        raise UsageError(f"{recording} can't be read: {error.strerror or error}") from None
    say(output, as_data(plan, header, result), as_text(header, result))


def as_data(plan: Plan, header: Header, result: Backtested) -> dict[str, Any]:
    """Return the result for programs; times are plan seconds since the epoch."""
    return {
        "rollout": plan.name,
        "plan": plan.digest,
        "recording": {
            "rollout": header.rollout,
            "plan": header.plan,
            "from_phase": header.from_phase,
            "ticks": result.ticks,
            "holes": result.holes,
            "begun": result.begun,
            "ended": result.ended,
            "phases": [{"name": segment.phase, "entered": segment.at} for segment in result.recorded_phases],
            "rollbacks": [asdict(rollback) for rollback in result.recorded_rollbacks],
            "completed": result.recorded_completed,
        },
        "phases": [asdict(stay) for stay in result.phases],
        "verdicts": [asdict(change) for change in result.changes],
        "rollbacks": [asdict(rollback) for rollback in result.rollbacks],
        "completed": result.completed,
        "unjudged": [{"phase": name, "split": split} for name, split in result.unjudged],
    }


def as_text(header: Header, result: Backtested) -> str:
    """Return the result for people."""
    lasted = duration(result.ended - result.begun)
    lines = [
        f"{result.ticks:,} ticks of {header.rollout}, {moment(result.begun)} to {moment(result.ended)} ({lasted})",
    ]
    if header.from_phase is not None:
        lines.append(f"recorded from phase {header.from_phase} on: evidence from before is not in it")
    if result.holes:
        lines.append(f"BLIND at {result.holes:,} holes: ticks that the rollout had are not in the recording")
    lines += ["", *_phase_lines(result), ""]
    lines += [f"{moment(change.at)} {change.phase}: {change.sentence}" for change in result.changes]
    lines += ["", *_end_lines(header, result)]
    return "\n".join(lines)


def _phase_lines(result: Backtested) -> list[str]:
    lines = []
    for stay in result.phases:
        left = f"left {moment(stay.left)}, {stay.went}" if stay.left is not None else "not left"
        lines.append(f"{stay.name}: entered {moment(stay.entered)}, {stay.came}; {left}; {_judged(stay)}")
        if stay.blind_s:
            lines.append(f"  BLIND for {duration(stay.blind_s)}: {stay.blind}")
    lines += [f"{name}: BLIND: the recording never had {split}" for name, split in result.unjudged]
    return lines


def _judged(stay: JudgedPhase) -> str:
    return f"judged on {duration(stay.judged_s)} of ticks" if stay.judged_s else "judged on no tick"


def _end_lines(header: Header, result: Backtested) -> list[str]:
    lines = []
    attempts = dict.fromkeys([*(r.attempt for r in result.rollbacks), *(r.attempt for r in result.recorded_rollbacks)])
    for attempt in sorted(attempts):
        ours = next((r for r in result.rollbacks if r.attempt == attempt), None)
        theirs = next((r for r in result.recorded_rollbacks if r.attempt == attempt), None)
        lines += [f"this plan       {_rollback(ours)}", f"the recording   {_rollback(theirs)}"]
        if ours is not None and theirs is not None:
            lines.append(f"                {_compared(theirs.at - ours.at, header.tick_s)}")
    for name, at in (("this plan", result.completed), ("the recording", result.recorded_completed)):
        if at is not None:
            lines.append(f"{name:<15} was completed at {moment(at)}")
    followed = sum(stay.came is Came.FOLLOWED for stay in result.phases)
    if followed:
        lines.append(f"{followed} phases were entered with the recording, before this plan's gates had passed")
    return lines or ["neither rolled back nor completed"]


def _rollback(found: Rollback | None) -> str:
    if found is None:
        return "had not rolled back by then"
    reason = f": {found.reason}" if found.reason else ""
    return f"rolled back {moment(found.at)} in {found.phase} by {found.trigger}{reason}"


def _compared(sooner_s: float, tick_s: float) -> str:
    if abs(sooner_s) < tick_s:
        return "at the same tick"
    return f"{duration(abs(sooner_s))} {'sooner' if sooner_s > 0 else 'later'} than the recording"
