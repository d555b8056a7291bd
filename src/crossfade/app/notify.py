"""`crossfade notify test PLAN`: a notice to each place, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from crossfade.adapters.system import SystemClock
from crossfade.app.commands import say
from crossfade.app.notices import SEND_S, allowed_by, notifier_of
from crossfade.app.planfile import load_plan
from crossfade.core import notices
from crossfade.core.plan import NoticeRule, Plan
from crossfade.errors import CrossfadeError, NoticeRefusedError, NotTakenError, UsageError
from crossfade.ports import Notifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of one rule's test."""

    rule: str
    where: str
    taken: bool
    said: str


def run_test(path: Path, rule: str | None, allow: str, output: str) -> None:
    """Send a test notice by each rule of a plan, or by one, and print what came back.

    Raises UsageError where the plan has no such rule, CrossfadeError where one was not taken.
    """
    plan, allowed, clock = load_plan(path), allowed_by(allow), SystemClock()
    notifiers = {one.name: notifier_of(one, allowed, clock.now) for one in _chosen(plan, path, rule)}
    tried = asyncio.run(_try_all(plan, notifiers, clock.now()))
    lines = (f"{'✔' if one.taken else '✖'} {one.rule}: {one.said}" for one in tried)
    say(output, [asdict(one) for one in tried], "\n".join(lines))
    if failed := sum(not one.taken for one in tried):
        raise CrossfadeError(f"{failed} of {len(tried)} test notices were not taken")


def _chosen(plan: Plan, path: Path, name: str | None) -> tuple[NoticeRule, ...]:
    if not plan.notices:
        raise UsageError(f"{path} tells nobody anything; add a `notify:` section")
    chosen = tuple(rule for rule in plan.notices if name in (None, rule.name))
    if not chosen:
        names = ", ".join(rule.name for rule in plan.notices)
        raise UsageError(f"there is no rule {name!r} in {path}; it has {names}")
    return chosen


async def _try_all(plan: Plan, notifiers: Mapping[str, Notifier], at: float) -> list[Tried]:
    rules = [rule for rule in plan.notices if rule.name in notifiers]
    try:
        return await asyncio.gather(*(_try(plan, rule, notifiers[rule.name], at) for rule in rules))
    finally:
        for notifier in notifiers.values():
            await notifier.close()


async def _try(plan: Plan, rule: NoticeRule, notifier: Notifier, at: float) -> Tried:
    try:
        async with asyncio.timeout(SEND_S):
            said = await notifier.send(notices.trial(rule, plan.name, at))
    except TimeoutError:
        return Tried(rule=rule.name, where=notifier.shown, taken=False, said=f"{notifier.shown} hangs")
    except (NotTakenError, NoticeRefusedError) as error:
        return Tried(rule=rule.name, where=notifier.shown, taken=False, said=str(error))
    return Tried(rule=rule.name, where=notifier.shown, taken=True, said=f"{notifier.shown} answered {said}")
