"""The demo's script as a machine: (what is seen) -> (what the demo does next). Pure; seconds are real ones.

    RISING ──defect planted──► HARMED ──rolled back──► REPAIRING ──V2 redeployed, retried──► RISING
      │  └──provider hangs──► OUTAGE ──provider answers again──► RECOVERING ──breaker closed──► RISING
      └──completed──► OVER             anything that the script did not mean ──► OVER, and said so

The demo never promotes: the plan does. It only harms, repairs, retries, and approves what a person has to approve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

DEFECT_PHASE, OUTAGE_PHASE = "early", "half"


class Scene(StrEnum):
    """What the story is at."""

    RISING = "rising"
    HARMED = "harmed"
    REPAIRING = "repairing"
    OUTAGE = "outage"
    RECOVERING = "recovering"
    OVER = "over"


class Act(StrEnum):
    """What the demo does to the world."""

    PLANT_DEFECT = "plant defect"
    REDEPLOY = "redeploy"
    RETRY = "retry"
    BEGIN_OUTAGE = "begin outage"
    END_OUTAGE = "end outage"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is to be played, and how long to wait for what."""

    defect: bool = True
    outage: bool = True
    settle_s: float = 5.0
    """Into a phase before something is done to it."""
    outage_s: float = 6.0
    breath_s: float = 3.0
    """Between a repair and the retry."""
    rollback_within_s: float = 30.0
    repair_within_s: float = 60.0
    recover_within_s: float = 20.0
    phase_within_s: float = 240.0
    """A phase that lasts longer is stuck."""

    @staticmethod
    def at_speed(speed: float, longest_soak_s: float, *, defect: bool, outage: bool) -> Script:
        """Return the script for a plan clock that fast; `longest_soak_s` is of the plan's time."""
        week_s = 7 * 86_400 / speed
        return Script(
            defect=defect,
            outage=outage,
            settle_s=min(5.0, week_s / 5),
            outage_s=min(6.0, max(3.0, week_s / 3)),
            phase_within_s=60 + 4 * longest_soak_s / speed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the demo sees, from outside."""

    at: float
    """Real seconds, on any clock that never steps."""
    state: str
    """Of the rollout: running, rolled_back, completed, ..."""
    phase: str
    attempt: int = 1
    reason: str = ""
    """Of the rollback, or of the last decision."""
    awaits_approval: bool = False
    breaker: str = "closed"
    v2_ready: bool = True


@dataclass(slots=True, kw_only=True)
class Story:
    """Where the story is. `step` returns the acts that are due; each is returned once."""

    script: Script = field(default_factory=Script)
    scene: Scene = Scene.RISING
    failure: str | None = None
    """Why it went otherwise than written; None while it did not."""
    _since: float | None = None
    """Since when the scene has lasted."""
    _entered: tuple[str, int] = ("", 0)
    _entered_at: float = 0.0
    _done: set[str] = field(default_factory=set)

    def step(self, look: Look) -> tuple[Act, ...]:
        """Return what to do now."""
        if self._since is None:
            self._since = look.at
        if self._entered != (look.phase, look.attempt):
            self._entered, self._entered_at = (look.phase, look.attempt), look.at
        if self.scene is Scene.OVER:
            return ()
        if look.state == "aborted":
            return self._fail("the rollout was aborted, which nobody asked for")
        if look.state == "rolled_back" and self.scene not in (Scene.HARMED, Scene.REPAIRING):
            return self._fail(f"rolled back though nothing was wrong with V2: {look.reason}")
        match self.scene:
            case Scene.RISING:
                return self._rising(look)
            case Scene.HARMED:
                return self._harmed(look)
            case Scene.REPAIRING:
                return self._repairing(look)
            case Scene.OUTAGE:
                return self._outage(look)
            case _:
                return self._recovering(look)

    def _rising(self, look: Look) -> tuple[Act, ...]:
        script, here = self.script, look.at - self._entered_at
        if look.state == "completed":
            return self._complete()
        if script.defect and look.phase == DEFECT_PHASE and here > script.settle_s and self._first("defect"):
            return self._go(Scene.HARMED, look, Act.PLANT_DEFECT)
        if script.outage and look.phase == OUTAGE_PHASE and here > script.settle_s and self._first("outage"):
            return self._go(Scene.OUTAGE, look, Act.BEGIN_OUTAGE)
        if look.awaits_approval and self._first(f"approval {look.phase} {look.attempt}"):
            return (Act.APPROVE,)
        if here > script.phase_within_s:
            return self._fail(f"stuck in {look.phase} for {here:.0f} s: {look.reason}")
        return ()

    def _complete(self) -> tuple[Act, ...]:
        missing = [
            name
            for name, wanted in (("defect", self.script.defect), ("outage", self.script.outage))
            if wanted and name not in self._done
        ]
        if missing:
            return self._fail(f"completed before its {' and '.join(missing)} could be played; lower --speed")
        self.scene = Scene.OVER
        return ()

    def _harmed(self, look: Look) -> tuple[Act, ...]:
        if look.state == "rolled_back":
            return self._go(Scene.REPAIRING, look)
        if look.phase != DEFECT_PHASE:
            return self._fail(f"promoted to {look.phase} with a V2 that fails")
        if self._lasted(look) > self.script.rollback_within_s:
            return self._fail(f"not rolled back within {self.script.rollback_within_s:g} s: {look.reason}")
        return ()

    def _repairing(self, look: Look) -> tuple[Act, ...]:
        if look.state == "running":
            return self._go(Scene.RISING, look)
        if self._lasted(look) > self.script.breath_s and self._first("redeploy"):
            self._since = look.at
            return (Act.REDEPLOY,)
        if self._lasted(look) > self.script.repair_within_s:
            return self._fail(f"not running again {self._lasted(look):.0f} s after the redeploy: {look.reason}")
        repaired = "redeploy" in self._done and look.v2_ready and self._lasted(look) > self.script.breath_s
        if repaired and self._first("retry"):
            return (Act.RETRY,)
        return ()

    def _outage(self, look: Look) -> tuple[Act, ...]:
        if look.breaker == "open":
            self._done.add("opened")
        if self._lasted(look) < self.script.outage_s:
            return ()
        if "opened" not in self._done:
            return self._fail(f"the breaker did not open within {self.script.outage_s:g} s of a hanging provider")
        return self._go(Scene.RECOVERING, look, Act.END_OUTAGE)

    def _recovering(self, look: Look) -> tuple[Act, ...]:
        if look.breaker == "closed":
            return self._go(Scene.RISING, look)
        if self._lasted(look) > self.script.recover_within_s:
            return self._fail(f"the breaker is still {look.breaker} {self._lasted(look):.0f} s after the outage")
        return ()

    def _lasted(self, look: Look) -> float:
        return look.at - (look.at if self._since is None else self._since)

    def _first(self, name: str) -> bool:
        if name in self._done:
            return False
        self._done.add(name)
        return True

    def _go(self, scene: Scene, look: Look, *acts: Act) -> tuple[Act, ...]:
        self.scene, self._since = scene, look.at
        return acts

    def _fail(self, why: str) -> tuple[Act, ...]:
        self.scene, self.failure = Scene.OVER, why
        return ()
