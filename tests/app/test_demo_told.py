"""What the demo shows and writes, from a board that has seen a whole story."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crossfade.app.demo.board import Board, BreakerChange, Mark, Outage
from crossfade.app.demo.report import Record, headline, markdown, went_well
from crossfade.app.demo.screen import draw
from crossfade.app.demo.show import PlainShow, status_line
from crossfade.app.demo.tally import Seen, Tally
from crossfade.app.demo.variant import beta_of, differences, reasons_in, shipped_plans, user_key, write_variant
from crossfade.app.planfile import load_plan
from crossfade.core.plan import DAY

SPEED = 24_000.0
START = 1_772_000_000.0


def _status(phase: str, index: int, day: float, **more: Any) -> dict[str, Any]:
    status = {
        "state": "running",
        "held_kind": None,
        "now": START + day * DAY,
        "started_at": START,
        "attempt": 1,
        "rollback_reason": None,
        "phase": {"name": phase, "index": index},
        "split": {"everyone": 0, "cohorts": {"internal": 10_000, "beta": 2000}},
        "weight": 500.0,
        "weight_seen": 480.0,
        "killed": False,
        "gates": [
            {"gate": "soak 1w", "kind": "soak", "verdict": "PASS", "evidence": "1w of 1w", "left_s": 0.0},
            {
                "gate": "failure_rate on target",
                "kind": "on_target",
                "verdict": "INCONCLUSIVE",
                "evidence": "failure_rate: V2 0.5 % against V1 0.5 %, 12 of 900 requests, " + "and so on " * 20,
                "left_s": 4000.0,
            },
        ],
        "decision": {"sentence": "not yet"},
        "metrics": {"failure_rate": {"v1": 0.005, "v2": 0.021}, "latency_p95": {"v1": 4.0, "v2": 9.0}},
        "requests": {"v1": 17_000, "v2": 900},
    }
    return status | more


def _line(at: float, answered: int, **v2: int) -> dict[str, Any]:
    counts = ("failed", "incomplete", "weather_ok", "weather_unavailable")
    side: dict[str, Any] = {"answers": answered // 2, "p95_ms": 9.0} | dict.fromkeys(counts, 0)
    line = {"at": at, "sent": answered, "answered": answered, "lost": 0, "retried": 0, "factor": 1.0}
    return line | {"v1": dict(side), "v2": side | v2}


def _event(kind: str, day: float, **data: Any) -> dict[str, Any]:
    return {"revision": 0, "at": START + day * DAY, "kind": kind, "data": data}


def _board() -> Board:
    board = Board(load_plan(shipped_plans() / "trips-v2-demo.yaml"), SPEED)
    board.see_events([_event("RolloutStarted", 0, plan="trips-v2-demo")])
    board.see_status(_status("internal", 0, 3))
    board.see_events([_event("PhasePromoted", 7, phase=1, name="canary", reason="all gates passed | so on", by="")])
    board.see_status(_status("canary", 1, 9))
    for second in range(8):
        board.see_users(_line(second, second * 700, failed=second * 30, weather_ok=second * 100), second)
    return board


def _rolled_back(board: Board) -> Board:
    board.defect_at = board.elapsed(START + 9.5 * DAY)
    hurt = {"trigger": "failure_rate", "took_s": 0.004, "users_hurt": 22, "nodes": {}}
    board.see_events([_event("RolledBack", 10, reason="V2 fails more than V1", **hurt)])
    board.rollbacks[0].retried = board.elapsed(START + 12 * DAY)
    board.see_events([_event("Retried", 12, phase=1, name="canary", reason="fixed", by="demo")])
    return board


def _summary() -> dict[str, Any]:
    tally = Tally(3)
    tally.sent = 3
    tally.add(0, Seen(status=200, version="v1"), 1.0, 1.004, retried=True)
    tally.add(1, Seen(status=200, version="v2", weather="ok"), 1.0, 1.009, retried=False)
    tally.add(1, Seen(status=500, version=None), 2.0, 2.009, retried=False)
    return tally.summary([(5.0, 6.0)])


def _record(board: Board, **more: Any) -> Record:
    told: dict[str, Any] = {
        "board": board,
        "summary": _summary(),
        "failure": None,
        "seconds": 265.0,
        "users": 2000,
        "rate": 720.0,
        "seed": 1,
        "processors": 2,
        "defect": 0.08,
        "cooldown_s": 2.0,
        "keep_s": 1.0,
    }
    return Record(**(told | more))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 16)])
def test_a_frame_fits_its_terminal(width: int, height: int) -> None:
    board = _rolled_back(_board())
    board.note(1.0, Mark.PLAIN, "a long story " * 60)
    console = Console(width=width, height=height, record=True, file=StringIO())
    console.print(draw(board, 61.0, width, height))
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_a_frame_shows_phase_split_versions_gates_and_notes() -> None:
    console = Console(width=120, height=40, record=True, file=StringIO())
    console.print(draw(_board(), 61.0, 120, 40))
    text = console.export_text()
    for part in (
        "day 9.0, planned 63",
        "● canary 5 %",
        "4.8 %",
        "beta 20 %",
        "CLOSED",
        "1 of 2 passed",
        "promoted to canary",
    ):
        assert part in text
    assert "failure_rate on target (1h 6m left): V2 0.5 %" in text


def test_a_frame_before_anything_is_known() -> None:
    console = Console(width=80, height=24, record=True, file=StringIO())
    console.print(draw(Board(load_plan(shipped_plans() / "trips-v2-demo.yaml"), SPEED), 0.0, 80, 24))
    assert "starting ..." in console.export_text()


def test_rates_and_failures_are_of_the_last_lines() -> None:
    board = _board()
    assert board.rate("v2") == pytest.approx(350)
    assert board.failing("v2") == pytest.approx(30 / 350)
    assert "V1 350/s, V2 350/s" in status_line(board)


def test_a_lowered_rate_is_said() -> None:
    board = _board()
    board.see_users(_line(9, 7000) | {"factor": 0.8}, 9.0)
    assert "the users' rate is lowered to 80%" in board.notes[-1].text


def test_plain_lines_tell_each_note_once(capsys: pytest.CaptureFixture[str]) -> None:
    show, board = PlainShow(), _rolled_back(_board())
    for elapsed in (1.0, 2.0):
        show.draw(board, elapsed)
    assert capsys.readouterr().out.count("ROLLED BACK in 4 ms, 22 users hurt") == 1


def test_only_a_missing_approval_is_waited_for() -> None:
    board = _board()
    assert not board.awaits_approval
    board.status["gates"] = [{"kind": "soak", "verdict": "PASS"}, {"kind": "approved", "verdict": "INCONCLUSIVE"}]
    assert board.awaits_approval


def test_the_report_tells_phases_decisions_rollback_and_users() -> None:
    text = markdown(_record(_rolled_back(_board())))
    assert "carried to 100 % in 4:25 min: 2,000 users, 3 answers, 0 lost requests" in text
    assert "| internal | 5 % | 4.8 % | 0.0 - 7.0 | 25.2 | 17,000 | 900 | promoted |" in text
    assert "all gates passed \\| so on" in text
    assert "8% of its requests; 1.8 s later the controller rolled back" in text
    assert (
        "Rollback time: 4.0 ms until every proxy had confirmed; V2 answered no request that was sent after it" in text
    )
    assert "the controller knew of 22 when it decided; 1 of 2,000 got 1 failed answers" in text
    assert "retried 7.2 s later" in text
    assert "| canary (attempt 2) |" in text
    assert "**0 lost requests**" in text


def test_the_report_tells_the_outage_and_the_breaker() -> None:
    board = _board()
    board.outage = Outage(begun=100.0, ended=106.0, before=_line(1, 100), after=_line(9, 1100, weather_unavailable=400))
    board.see_breaker(BreakerChange(elapsed=100.6, old="closed", new="open", reason="failure_rate"))
    text = markdown(_record(board))
    assert "V2 gave 500 answers, 400 of them without weather" in text
    assert "0 of them lacked flights or hotels; failed: 0.00% on V2" in text
    assert "| 100.6 s | closed -> open | failure_rate |" in text
    assert board.breaker_state == "open"


def test_losses_violations_and_failures_are_not_hidden() -> None:
    good = _record(_board())
    assert went_well(good)
    lost = replace(good, summary={**_summary(), "lost": {"reset": 2}, "violations": 1})
    assert not went_well(lost)
    assert "2 requests got no answer of the origin and 1 users were moved back" in headline(lost)
    assert "2 x reset" in markdown(lost)
    failed = replace(good, failure="stuck in half")
    assert not went_well(failed)
    assert headline(failed) == "The demo did not go as written: stuck in half."
    silent = replace(good, summary={})
    assert not went_well(silent)
    assert "could not be asked" in markdown(silent)


# ── the plan ──


def test_the_variant_moves_ports_and_nothing_else(tmp_path: Path) -> None:
    variant = write_variant(tmp_path, shipped_plans(), listen=25_000, v1=25_001, v2=25_002, users=2000)
    shipped = load_plan(shipped_plans() / "trips-v2-demo.yaml")
    assert variant.plan.api.listen == "127.0.0.1:25000"
    assert variant.plan.api.v1.upstreams == ("127.0.0.1:25001",)
    assert variant.plan.api.v2.upstreams == ("127.0.0.1:25002",)
    assert variant.plan.assignment == shipped.assignment
    assert variant.plan.phases == shipped.phases
    keys = variant.keys.read_text().split()
    assert len(keys) == 2012
    assert keys[0] == "staff-01"


@pytest.mark.parametrize("users", [400, 1000, 5000])
def test_other_numbers_of_users_keep_the_shares(tmp_path: Path, users: int) -> None:
    plan = write_variant(tmp_path, shipped_plans(), listen=1, v1=2, v2=3, users=users).plan
    assert plan.assignment.users == users
    canary = plan.phases[plan.phase_index("canary")]
    assert canary.split.weight({"beta": len(plan.assignment.cohorts["beta"])}, users) == pytest.approx(500, rel=0.01)


def test_beta_is_repeated_beyond_the_shipped_users() -> None:
    assert beta_of(frozenset({user_key(2)}), 3000) == ["u0002", "u2002"]


def test_differences_name_field_old_new_and_reason(tmp_path: Path) -> None:
    text = (shipped_plans() / "trips-v2.yaml").read_text()
    changed = text.replace("    margin: 1.25\n", "    margin: 3   # DEMO, for 1.25: few requests\n")
    changed = changed.replace("    baseline: 0.5%\n", "    baseline: 0.1%   # DEMO, for 0.5%: nothing fails\n")
    for name in ("internal", "beta"):
        (tmp_path / "cohorts").mkdir(exist_ok=True)
        (tmp_path / "cohorts" / f"{name}.txt").write_text((shipped_plans() / "cohorts" / f"{name}.txt").read_text())
    (tmp_path / "plan.yaml").write_text(changed)
    found = differences(load_plan(shipped_plans() / "trips-v2.yaml"), load_plan(tmp_path / "plan.yaml"))
    assert {"failure_rate, baseline: 0.10% instead of 0.50%", "early, margin: 3 instead of 1.25"} == {
        str(difference) for difference in found
    }
    assert reasons_in(changed) == {"early, margin": "few requests", "failure_rate, baseline": "nothing fails"}
