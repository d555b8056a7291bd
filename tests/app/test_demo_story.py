"""The script as a machine: what the demo does next, given what it sees."""

from __future__ import annotations

from dataclasses import replace

from crossfade.app.demo.story import Act, Look, Script, Story

START = Look(at=0.0, state="running", phase="internal")


class Played:
    """A story and the clock it is played by."""

    def __init__(self, script: Script | None = None) -> None:
        self.story = Story(script=script or Script())
        self.look = START
        self.acts: list[Act] = []

    @property
    def scene(self) -> str:
        return self.story.scene.value

    def see(self, seconds: float, **changes: object) -> tuple[Act, ...]:
        self.look = replace(self.look, at=self.look.at + seconds, **changes)  # type: ignore[arg-type]
        acts = self.story.step(self.look)
        self.acts += acts
        return acts


def _rolled_back() -> Played:
    played = Played()
    played.see(0)
    played.see(1, phase="early")
    played.see(6)
    played.see(4, state="rolled_back", reason="V2 fails more")
    return played


def test_the_whole_story_in_order() -> None:
    played = _rolled_back()
    assert played.see(1) == ()
    assert played.see(3) == (Act.REDEPLOY,)
    assert played.see(5, v2_ready=False) == ()
    assert played.see(1, v2_ready=True) == (Act.RETRY,)
    assert played.see(1, state="running", attempt=2) == ()
    assert played.see(10) == ()
    assert played.see(60, phase="half") == ()
    assert played.see(6) == (Act.BEGIN_OUTAGE,)
    assert played.see(2, breaker="open") == ()
    assert played.see(5, breaker="half_open") == (Act.END_OUTAGE,)
    assert played.scene == "recovering"
    played.see(2, breaker="closed")
    played.see(20, phase="full")
    assert played.see(1, awaits_approval=True) == (Act.APPROVE,)
    assert played.see(1) == ()
    played.see(1, state="completed", awaits_approval=False)
    assert played.scene == "over"
    assert played.story.failure is None
    assert played.see(5) == ()


def test_a_rollback_of_a_healthy_v2_is_said_to_be_one() -> None:
    played = Played()
    played.see(1, phase="canary")
    assert played.see(5, state="rolled_back", reason="noise") == ()
    assert played.story.failure == "rolled back though nothing was wrong with V2: noise"


def test_a_rollback_during_the_outage_is_not_meant() -> None:
    played = Played(Script(defect=False))
    played.see(1, phase="half")
    assert played.see(6) == (Act.BEGIN_OUTAGE,)
    played.see(1, state="rolled_back", reason="latency")
    assert played.story.failure is not None


def test_a_defect_that_is_not_found_in_time() -> None:
    played = Played()
    played.see(1, phase="early")
    assert played.see(6) == (Act.PLANT_DEFECT,)
    played.see(31)
    assert played.story.failure is not None
    assert "not rolled back within 30 s" in played.story.failure


def test_a_promotion_with_the_defect_is_a_failure() -> None:
    played = Played()
    played.see(1, phase="early")
    played.see(6)
    played.see(3, phase="half")
    assert played.story.failure == "promoted to half with a V2 that fails"


def test_a_retry_that_does_not_come_is_a_failure() -> None:
    played = _rolled_back()
    played.see(4)
    played.see(4)
    played.see(61)
    assert played.story.failure is not None
    assert "not running again" in played.story.failure


def test_a_breaker_that_never_opens_or_never_closes() -> None:
    never_opened = Played(Script(defect=False))
    never_opened.see(1, phase="half")
    never_opened.see(6)
    never_opened.see(7)
    assert never_opened.story.failure == "the breaker did not open within 6 s of a hanging provider"

    never_closed = Played(Script(defect=False))
    never_closed.see(1, phase="half")
    never_closed.see(6)
    never_closed.see(1, breaker="open")
    never_closed.see(6)
    never_closed.see(21)
    assert never_closed.story.failure == "the breaker is still open 21 s after the outage"


def test_a_stuck_phase_ends_the_demo() -> None:
    played = Played(Script(defect=False, outage=False, phase_within_s=100))
    played.see(1)
    played.see(101, reason="5 of 6 gates passed")
    assert played.story.failure == "stuck in internal for 101 s: 5 of 6 gates passed"


def test_without_defect_and_outage_nothing_is_done() -> None:
    played = Played(Script(defect=False, outage=False))
    for phase in ("early", "half", "most"):
        played.see(1, phase=phase)
        played.see(20)
    played.see(1, state="completed")
    assert played.acts == []
    assert played.story.failure is None


def test_a_demo_too_fast_for_its_script_says_so() -> None:
    played = Played()
    played.see(1, phase="early")
    played.see(1, phase="half")
    played.see(1, state="completed")
    assert played.story.failure == "completed before its defect and outage could be played; lower --speed"


def test_the_script_fits_the_speed() -> None:
    week = 7 * 86_400.0
    usual = Script.at_speed(20_000, 2 * week, defect=True, outage=True)
    assert (usual.settle_s, usual.outage_s) == (5.0, 6.0)
    fast = Script.at_speed(60_000, 2 * week, defect=True, outage=True)
    assert fast.settle_s < fast.outage_s < week / 60_000
