"""What must never happen, checked after everything that happens.

The watch sees proxy and store themselves, with nothing in between that could fail or lie, and holds each change
against the history as it stands in the store at that moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from crossfade.core import events as e
from crossfade.core.events import from_data
from crossfade.core.jsonable import to_json
from crossfade.core.machine import State
from crossfade.core.rollout import Rollout, evolve, fold
from crossfade.core.split import BUCKETS, Version, bucket_of
from crossfade.engine.apply import wanted_state
from crossfade.errors import ConflictError
from crossfade.ports import ProxyState, StoredEvent
from crossfade.testing.simulator.plan import USERS

if TYPE_CHECKING:
    from crossfade.testing.simulator.process import Process
    from crossfade.testing.simulator.world import World

BOUND_S = 60.0
"""Real seconds within which a rollback must have reached a proxy that answers to a controller that lives."""
RECORDED_S = 30.0
"""Real seconds for which a proxy must have answered, so that a rollback that is recorded has reached it."""
_STARTS = ("RolloutStarted", "ControllerStarted")
_MAY_REPEAT = (*_STARTS, "RolledBack")
"""Who has lost the lease may begin again; and who was not told that everyone is on V1 may ask again."""
_T = TypeVar("_T")

RISES = "V2's share only rises to what the history had promised under this very generation"
ROLLED_BACK = "after a rollback everyone is on V1, until a retry is recorded"
KEPT = "no event is lost or doubled"
FOLDS = "the state is the fold of the events"
STICKY = "a user's version only changes when the split passes the user's bucket"
FENCED = "nothing acts on another generation's answer"
HONEST = "what was answered is so"
THOUGHT_OF = "no look meets what nobody thought of"
APPLIED = "what is recorded as applied was at the proxy before"
RETIRED = "a retired V1 never gets traffic"
DRILLED = "a drill that is recorded as passed had everyone on V1 in time"
LIVES = "after the faults one controller acts, and all goes on"


class BrokenError(AssertionError):
    """An invariant does not hold."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


@dataclass(slots=True)
class _Rollback:
    """A rollback that was decided and not taken back: when, and whether it was one on purpose."""

    at: float
    drill: bool = False


class Watch:
    """Holds what happens against the rules; the first rule broken is kept in `first`."""

    def __init__(self, world: World) -> None:
        self.first: BrokenError | None = None
        self.events: list[StoredEvent] = []
        self.folds: list[Rollout] = [fold(world.plan.name, [])]
        """State after each revision."""
        self._world = world
        self._wanted: dict[int, ProxyState] = {}
        self._owners: dict[int, str] = {}
        """Who began each generation."""
        self._leader = ""
        """Whose start was recorded last."""
        self._seen_states = 0
        self._state = ProxyState(generation=0)
        self._known: set[bytes] = set()
        self._asked: set[tuple[str, str]] = set()
        self._told: dict[bytes, tuple[Process, StoredEvent]] = {}
        """Events that listeners know of and the store does not."""
        self._checked: dict[str, Rollout] = {}
        self._rollback: _Rollback | None = None
        self._unable_until = float("-inf")
        self._drill_began = self._left_at = float("-inf")
        """When the latest drill was recorded to begin, and when V2 was left with nothing for the last time."""
        self._users = {user: (world.plan.assignment.cohort_of(user) or "", Version.V1) for user in USERS}
        self.served = Counter(self._users.values())
        """How many users have which version, by cohort (empty for everyone else)."""

    @property
    def rollout(self) -> Rollout:
        """Return the state that the store's events add up to."""
        return self.folds[-1]

    def broken(self, rule: str, detail: str) -> None:
        """Note that a rule is broken; the first one counts."""
        if self.first is None:
            self._world.say("watch", f"BROKEN {rule}: {detail}")
            self.first = BrokenError(rule, detail)
            self._world.over.set()

    # ── after each step ─────────────────────────────────────────────────────────────────────────────────

    def look(self, process: Process | None = None) -> None:
        """Check what has changed, by `process` where it did; called with nothing in between."""
        self._look_at_events(process)
        self._look_at_proxy(process)
        self._look_at_rollback()
        self._look_at_told()
        if process is not None:
            self._look_at_fold(process)

    def _look_at_events(self, process: Process | None) -> None:
        new = _at_once(self._world.store.events(self._world.plan.name, len(self.events)))
        for event in new:
            self._take(event, process.name if process else "nobody")

    def _take(self, event: StoredEvent, writer: str) -> None:
        self.events.append(event)
        if event.revision != len(self.events):
            self.broken(KEPT, f"revision {event.revision} stands where {len(self.events)} belongs")
        mark = _mark(event)
        if mark in self._known:
            self.broken(KEPT, f"#{event.revision} {event.kind} is in the history twice")
        self._known.add(mark)
        self._told.pop(mark, None)
        by = str(event.data.get("by") or "")
        if by and event.kind not in _MAY_REPEAT and (event.kind, by) in self._asked:
            self.broken(KEPT, f"{event.kind} by {by}, who asked once, is in the history twice")
        self._asked.add((event.kind, by))
        if event.kind in _STARTS:
            self._leader = writer
        elif writer != self._leader:
            self.broken(FENCED, f"{writer} wrote #{event.revision} {event.kind} after {self._leader} had begun")
        try:
            state = evolve(self.folds[-1], from_data(event.kind, event.at, event.data))
        except ConflictError as error:
            self.broken(FOLDS, f"#{event.revision} {event.kind}: {error}")
            return
        self.folds.append(state)
        self._wanted[state.generation] = wanted_state(self._world.plan, state)
        self._owners.setdefault(state.generation, writer)
        self._look_at_event(event)

    def _look_at_event(self, event: StoredEvent) -> None:
        now = self._world.clock.monotonic()
        match event.kind:
            case e.Retried.__name__:
                self._rollback = None
            case e.RolledBack.__name__:
                self._decided(now)
                if _highest(self._state) and now - self._unable_until > RECORDED_S:
                    self.broken(ROLLED_BACK, f"#{event.revision} is recorded and V2 has {_words(self._state)}")
            case e.DrillStarted.__name__:
                self._drill_began = now
                self._rollback = self._rollback or _Rollback(now, drill=True)
            case e.DrillPassed.__name__:
                self._look_at_drill(event)
            case e.SplitApplied.__name__:
                self._look_at_applied(event)
            case e.V1Retired.__name__:
                self._look_at_retired(event)

    def _look_at_retired(self, event: StoredEvent) -> None:
        proxy = self._world.proxy
        if not (self._state.retired and proxy.file.retired):
            self.broken(RETIRED, f"#{event.revision} is recorded, and the proxy has {_words(self._state)}")
        if any(proxy.version_of(user) is Version.V1 for user in USERS):
            self.broken(RETIRED, f"#{event.revision} is recorded, and V1 has users")

    def _decided(self, now: float) -> None:
        """Note that everyone is to be on V1, and not on purpose."""
        if self._rollback is None or self._rollback.drill:
            self._rollback = _Rollback(now)

    def _look_at_applied(self, event: StoredEvent) -> None:
        wanted = self._wanted.get(int(str(event.data["generation"])))
        if wanted is None or wanted not in self._world.proxy.history:
            said = "nothing" if wanted is None else _words(wanted)
            self.broken(APPLIED, f"#{event.revision} is recorded, and the proxy never had {said}")

    def _look_at_drill(self, event: StoredEvent) -> None:
        within = float(str(event.data["within_s"]))
        if _highest(self._state):
            self.broken(DRILLED, f"#{event.revision} is recorded and V2 has {_words(self._state)}")
        elif self._left_at - self._drill_began > within:
            self.broken(
                DRILLED, f"#{event.revision} is recorded, {self._left_at - self._drill_began:.1f} s were needed"
            )
        if self._rollback is not None and self._rollback.drill:
            self._rollback = None

    def _look_at_proxy(self, process: Process | None) -> None:
        history = self._world.proxy.history
        while self._seen_states < len(history):
            state = history[self._seen_states]
            self._seen_states += 1
            if state != self._state:
                self._change(state, process)

    def _change(self, new: ProxyState, process: Process | None) -> None:
        old, self._state = self._state, new
        who = process.name if process else "proxy"
        self._world.say(who, f"proxy has {_words(new)}")
        wanted = self._wanted.get(new.generation)
        if _rises(old, new) and (wanted is None or wanted.killed or wanted.split != new.split):
            promised = "nothing" if wanted is None else _words(wanted)
            self.broken(RISES, f"from {_words(old)} to {_words(new)}, promised was {promised}")
        owner = self._owners.get(new.generation)
        if process is not None and _rises(old, new) and owner not in (None, process.name):
            self.broken(FENCED, f"{who} set {_words(new)}, a generation of {owner}")
        if self.rollout.state is State.RETIRED and not new.retired:
            self.broken(RETIRED, f"{who} brought V1 back: {_words(new)}")
        if _highest(old) and not _highest(new):
            self._left_at = self._world.clock.monotonic()
        self._look_at_users(old, new)

    def _look_at_users(self, old: ProxyState, new: ProxyState) -> None:
        proxy, rule = self._world.proxy, self._world.plan.assignment
        for user in USERS:
            version, (cohort, before) = proxy.version_of(user), self._users[user]
            if version is before:
                continue
            self._users[user] = (cohort, version)
            bucket = bucket_of(user, rule.salt)
            passed = sorted((_share(old, cohort or None), _share(new, cohort or None)))
            if not passed[0] <= bucket < passed[1]:
                self.broken(STICKY, f"{user} in bucket {bucket} went to {version}, the share from/to {passed}")
        self.served = Counter(self._users.values())

    # ── rollbacks ───────────────────────────────────────────────────────────────────────────────────────

    def thrown(self) -> None:
        """Note that a rollback switch was thrown while the proxy answered: from now on everyone is on V1."""
        self._decided(self._world.clock.monotonic())

    def unable(self) -> None:
        """Note that just now nobody could have moved the proxy."""
        self._unable_until = self._world.clock.monotonic()

    def _look_at_rollback(self) -> None:
        if self._rollback is None or not _highest(self._state):
            return
        since = max(self._rollback.at, self._unable_until)
        if self._world.clock.monotonic() - since > BOUND_S:
            decided = f"{self._world.clock.monotonic() - self._rollback.at:.1f} s ago"
            self.broken(ROLLED_BACK, f"decided {decided}, and V2 still has {_words(self._state)}")

    # ── what controllers know ───────────────────────────────────────────────────────────────────────────

    def told(self, process: Process, event: StoredEvent) -> None:
        """Note that a listener of a process was told of an event."""
        self._look_at_events(process)
        if _mark(event) not in self._known:
            self._told[_mark(event)] = (process, event)

    def _look_at_told(self) -> None:
        for mark, (process, event) in list(self._told.items()):
            if not process.alive or process.controller.taken_over or process.controller.fenced is not None:
                del self._told[mark]  # the proxy tells the next controller what was done to it
            elif all(_mark(waiting) != mark for waiting in process.controller.unwritten):
                self.broken(KEPT, f"{process.name} told of {event.kind}, which is neither kept nor waits")

    def _look_at_fold(self, process: Process) -> None:
        """Compare a controller's state with the fold of the events that it stands on."""
        rollout, waiting = process.controller.rollout, process.controller.unwritten
        if self._checked.get(process.name) is rollout:
            return
        self._checked[process.name] = rollout
        base = waiting[0].revision - 1 if waiting else rollout.revision
        if base >= len(self.folds):
            self.broken(FOLDS, f"{process.name} is at revision {base}, the store at {len(self.events)}")
            return
        state = self.folds[base]
        for event in waiting:
            state = evolve(state, from_data(event.kind, event.at, event.data))
        if state != rollout:
            self.broken(FOLDS, f"{process.name} has {rollout}, the fold is {state}")

    def answered(self, process: Process, verb: str, by: str) -> None:
        """Check that a verb that was answered as done is in the history, or waits to be, and at the proxy."""
        self.look(process)
        unwritten: Sequence[StoredEvent] = process.controller.unwritten
        recorded = any(event.data.get("by") == by for event in (*reversed(self.events), *unwritten))
        if verb == "rollback":
            recorded |= self._state.killed  # through a fenced controller: another one records it
        if not recorded:
            self.broken(HONEST, f"{process.name} said that {verb} by {by} is done")


def _at_once(call: Awaitable[_T]) -> _T:
    """Return what a call of a fake returns, which never waits."""
    steps = call.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: _T = done.value
        return result
    raise RuntimeError("a fake has waited")


def _mark(event: StoredEvent) -> bytes:
    return to_json([event.kind, event.at, sorted(event.data.items())])


def _share(state: ProxyState, cohort: str | None) -> int:
    if state.retired:
        return BUCKETS
    return 0 if state.killed else state.split.share_of(cohort)


def _highest(state: ProxyState) -> int:
    """Return V2's share where it is highest, in basis points."""
    return max(_share(state, name) for name in (None, *state.split.cohorts))


def _rises(old: ProxyState, new: ProxyState) -> bool:
    names = (None, *new.split.cohorts)
    return any(_share(new, name) > _share(old, name) for name in names)


def _words(state: ProxyState) -> str:
    if state.retired:
        return f"V1 retired (generation {state.generation})"
    shares = "everyone on V1" if state.killed else f"{state.split.everyone}/{BUCKETS}"
    cohorts = "" if state.killed else "".join(f" {name} {share}" for name, share in state.split.cohorts.items())
    return f"{shares}{cohorts} (generation {state.generation})"
