"""`crossfade wait`: ends when a rollout has come to something, for jobs that go on from there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossfade.app.client import Client
from crossfade.core.machine import State
from crossfade.errors import CrossfadeError, NotReachedError, OutOfReachError, UnreachableError, UsageError

if TYPE_CHECKING:
    from crossfade.ports import Clock

LOOK_S = 1.0
"""Real seconds between looks."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_VERDICTS = ("promote", "complete", "roll back", "hold", "blind", "both bad", "paused", "drill")
_PAGE = 50


def seconds(text: str) -> float:
    """Return a duration such as 90s, 15m or 1h30m in seconds; UsageError where it is none."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{text!r} is no duration; write it like 90s, 15m or 2h")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


@dataclass(slots=True)
class Goal:
    """What is waited for: `phase=half`, `state=completed`, `verdict=promote` or `gate=failure_rate on target`."""

    kind: str
    name: str
    _seen: int | None = field(default=None, init=False)
    """Number of the latest decision that was there before we began, or that has been looked at since."""

    def reached(self, client: Client, status: dict[str, Any]) -> bool:
        """Tell whether it is so; UsageError where the plan knows no such thing."""
        match self.kind:
            case "phase":
                return self._phase(client)
            case "state":
                return bool(status["state"] == self.name)
            case "verdict":
                return self._verdict(client)
        return self._gate(client)

    def _phase(self, client: Client) -> bool:
        places = {phase["name"]: phase["place"] for phase in client.get("/phases")}
        if self.name not in places:
            raise UsageError(f"there is no phase {self.name!r}; the plan has {', '.join(places)}")
        return bool(places[self.name] != "ahead")

    def _verdict(self, client: Client) -> bool:
        """Tell whether the present decision or one since we began is of this kind; none between two looks is missed."""
        first = self._seen is None
        new = []
        for decision in client.pages(f"/decisions?limit={1 if first else _PAGE}", 1 if first else 10 * _PAGE):
            if self._seen is not None and decision["number"] <= self._seen:
                break
            new.append(decision)
        self._seen = new[0]["number"] if new else self._seen or 0
        return any(decision["outcome"].lower() == self.name for decision in new)

    def _gate(self, client: Client) -> bool:
        """Tell whether the gate passes, or all of its phase's have passed and the rollout has gone on."""
        phases = client.get("/phases")
        of = [(phase, gate) for phase in phases for gate in phase["gates"] if gate["gate"] == self.name]
        if not of:
            known = dict.fromkeys(gate["gate"] for phase in phases for gate in phase["gates"])
            raise UsageError(f"there is no gate {self.name!r}; the plan has: {'; '.join(known)}")
        if any(gate["verdict"] == "PASS" for phase, gate in of if phase["place"] == "now"):
            return True
        return bool({phase["name"] for phase, _ in of if phase["place"] == "past"} & _passed(client, phases))


def _passed(client: Client, phases: list[dict[str, Any]]) -> set[str]:
    """Return the phases that were left because their gates had passed, in this attempt."""
    found: set[str] = set()
    for event in client.pages("/events?after=0&limit=1000", 1_000_000):
        if event["kind"] in ("RolloutStarted", "Retried"):
            found.clear()
        if event["kind"] == "PhasePromoted" and not event["data"].get("by"):
            found.add(phases[event["data"]["phase"] - 1]["name"])
    return found


def goal(text: str) -> Goal:
    """Return what the text asks for; UsageError where it can't be waited for."""
    kind, _, name = text.partition("=")
    known: dict[str, tuple[str, ...]] = {"state": tuple(State), "verdict": _VERDICTS}
    if kind not in ("phase", "gate", *known) or not name:
        raise UsageError(f"--for is phase=NAME, state=STATE, verdict=VERDICT or gate=NAME, not {text!r}")
    if kind in known and name not in known[kind]:
        raise UsageError(f"--for {kind}= is one of {', '.join(known[kind])}, not {name!r}")
    return Goal(kind, name)


def out_of_reach(wanted: Goal, status: dict[str, Any]) -> str:
    """Return why it will never be so without a person; empty while it can be."""
    state = status["state"]
    if state not in ("rolled_back", "aborted", "completed", "retired"):
        return ""
    if wanted.kind == "state" and (state, wanted.name) in (
        ("rolled_back", "running"),
        ("rolled_back", "aborted"),
        ("completed", "rolled_back"),
        ("completed", "retired"),
    ):
        return ""
    reason = status["rollback_reason"]
    return str(state).replace("_", " ") + (f": {reason}" if reason and state not in ("completed", "retired") else "")


async def wait(
    wanted: Goal, timeout_s: float | None, connect: Callable[[], Client], tell: Callable[[str], None], clock: Clock
) -> dict[str, Any]:
    """Return the rollout's status once it has come to what is wanted; a controller that is gone is waited for.

    Raises NotReachedError when the time is over (real seconds), OutOfReachError when it can't come true any more,
    and UsageError where the plan knows no such thing.
    """
    until = None if timeout_s is None else clock.monotonic() + timeout_s
    gone = ""
    last = "nothing was heard of it"
    while True:
        try:
            client = connect()
            status: dict[str, Any] = client.get("")
            if wanted.reached(client, status):
                return status
            if why := out_of_reach(wanted, status):
                raise OutOfReachError(f"{status['rollout']} won't come to {wanted.kind}={wanted.name}: it is {why}")
            last = f"{status['rollout']} is {status['state']} in {status['phase']['name']}"
            gone = ""
        except CrossfadeError as error:
            if type(error) not in (UnreachableError, CrossfadeError):  # the latter: a 5xx, such as a store that is away
                raise
            if not gone:
                tell(f"waiting for a controller: {error}")
            gone = "; the controller does not answer"
        left = None if until is None else until - clock.monotonic()
        if left is not None and left <= 0:
            raise NotReachedError(f"{wanted.kind}={wanted.name} was not reached in time: {last}{gone}")
        await clock.sleep(LOOK_S if left is None else min(LOOK_S, left))
