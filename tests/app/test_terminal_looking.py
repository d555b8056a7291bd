"""The commands that look, against a control API: what they tell, in which form, and how a wait ends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.app.lived import Lived
from tests.app.serving import TOKEN, served_with, serving

from crossfade.app import views
from crossfade.app.cli import main
from crossfade.app.control import Control
from crossfade.app.terminal.escaped import escaped, escaped_all
from crossfade.app.terminal.follow import messages
from crossfade.app.terminal.looks import band, metrics, odds
from crossfade.app.terminal.wait import seconds
from crossfade.errors import UsageError

Say = Callable[..., Coroutine[Any, Any, Result]]


@pytest.fixture
async def lived(tmp_path: Path) -> AsyncIterator[Lived]:
    """A rollout in its canary that has seen two hours, with a control file for commands."""
    made = await Lived().begin(hours=2)
    served = served_with(made.controller, made.store, made.telemetry, made.clock, tmp_path, meters=made.meters)
    async with serving(served) as url:
        folder = tmp_path / "state" / "trips-v2"
        folder.mkdir(parents=True)
        Control(rollout="trips-v2", url=url, token=TOKEN, plan="", pid=1).write(folder)
        yield made


@pytest.fixture
def say(tmp_path: Path) -> Say:
    async def run(*arguments: str) -> Result:
        command = [*arguments, "--state", str(tmp_path / "state")]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    return run


async def test_json_and_yaml_are_the_same_record(lived: Lived, say: Say) -> None:
    for command in ("status", "events", "metrics", "why"):
        told, again = [(await say(command, "-o", form)).stdout for form in ("json", "yaml")]
        assert json.loads(told) == yaml.safe_load(again)


async def test_status_tells_gates_with_marks_and_wide_adds_metrics(lived: Lived, say: Say) -> None:
    text = (await say("status")).stdout
    assert "trips-v2: RUNNING" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    wide = (await say("status", "-o", "wide")).stdout
    assert wide.startswith(text.rstrip())
    assert "METRIC " in wide


async def test_metrics_tell_values_ratio_band_margin_evidence_and_sample(lived: Lived, say: Say) -> None:
    text = (await say("metrics", "--metric", "failure_rate")).stdout
    assert text.split("\n")[0].endswith(" failure_rate")
    for part in ("V1 0.", "V2 over V1 ", "..", "margin 2", "evidence of harm ", ":1 of ", "sample "):
        assert part in text
    wide = (await say("metrics", "-o", "wide")).stdout.splitlines()
    assert len(wide) == 1 + len(lived.plan.metrics)
    wrong = await say("metrics", "--metric", "nothing")
    assert (wrong.exit_code, "failure_rate" in wrong.stderr) == (2, True)


async def test_metrics_are_told_by_region_where_there_are_several(lived: Lived, say: Say) -> None:
    assert "by region" not in (await say("metrics")).stdout
    await lived.hour()  # regions count from when this process began
    (metric,) = json.loads((await say("metrics", "--metric", "failure_rate", "-o", "json")).stdout)
    rows = {row["region"]: row for row in metric["regions"]}
    assert rows.keys() == {"eu", "us"}
    text = (await say("metrics", "--metric", "failure_rate")).stdout
    assert f"by region, since this controller began:\n      {metric['regions'][0]['region']}: V1 " in text
    assert f"sample {rows['eu']['n1']:,} of V1, {rows['eu']['n2']:,} of V2" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    head, _, first, second = (await say("metrics", "--metric", "failure_rate", "-o", "wide")).stdout.splitlines()
    assert {first.split()[0], second.split()[0]} == {"eu", "us"}
    assert first.index(f"{metric['regions'][0]['n1']:,}") == head.index("N1")


async def test_regions_are_bounded_and_what_clients_call_them_is_harmless(tmp_path: Path) -> None:
    made = await Lived(regions=("\x1b[2J", "", *(f"r{n}" for n in range(40)))).begin(hours=1)
    served = served_with(made.controller, made.store, made.telemetry, made.clock, tmp_path, meters=made.meters)
    await made.hour()
    (carried,) = served.rollouts.values()
    data = views.metrics_view(made.controller, carried.regions)
    failures = next(metric for metric in data if metric["name"] == "failure_rate")
    assert len(failures["regions"]) <= 12
    assert {"", "other"} < {row["region"] for row in failures["regions"]}
    assert sum(row["n1"] + row["n2"] for row in failures["regions"]) > 40 * 300
    for wide in (False, True):
        text = metrics(escaped_all(data), wide=wide)
        assert "not said" in text
        assert "\x1b" not in text


async def test_a_decision_is_told_with_what_it_rested_on(lived: Lived, say: Say) -> None:
    listed = json.loads((await say("why", "-o", "json")).stdout)
    number = str(listed[0]["number"])
    for words in ([number], ["trips-v2", number]):
        text = (await say("why", *words)).stdout
        assert text.startswith(f"Decision {number} of ")
        assert "odds of harm" in text
    assert (await say("why", "99999")).exit_code == 2


async def test_events_are_narrowed_by_kind_time_and_number(lived: Lived, say: Say) -> None:
    async def kinds(*options: str) -> list[str]:
        return [event["kind"] for event in json.loads((await say("events", "-o", "json", *options)).stdout)]

    everything = await kinds()
    assert await kinds("--kind", "phasepromoted") == ["PhasePromoted"]
    assert await kinds("--limit", "1") == everything[-1:]
    assert await kinds("--since", "1s") == []
    assert await kinds("--since", "1w") == everything
    wrong = await say("events", "--kind", "Nothing")
    assert (wrong.exit_code, "PhasePromoted" in wrong.stderr) == (2, True)


async def test_what_a_person_typed_does_not_act_on_the_terminal(lived: Lived, say: Say) -> None:
    await lived.controller.pause("eve\x1b[2J", "all is\x07 well\u202e\u2028nothing")
    for command in (["events"], ["events", "-o", "wide"], ["events", "-o", "yaml"], ["status"]):
        text = (await say(*command)).stdout
        assert all(c == "\n" or c.isprintable() for c in text)
    assert "eve\\x1b[2J" in (await say("events")).stdout


def test_controls_marks_and_halves_are_spelled_out() -> None:
    assert escaped("a\x1b\x9b\u202e\udcffé✔\n") == "a\\x1b\\x9b\\u202e\\udcffé✔\\x0a"
    assert escaped("a\nb\r", keep="\n") == "a\nb\\x0d"


async def test_a_wait_ends_at_once_where_it_is_so(lived: Lived, say: Say) -> None:
    for goal in ("phase=internal", "phase=canary", "state=running"):
        done = await say("wait", "--for", goal)
        assert (done.exit_code, goal in done.stdout) == (0, True)


async def test_a_wait_that_takes_too_long_ends_with_5(lived: Lived, say: Say) -> None:
    done = await say("wait", "--for", "phase=full", "--timeout", "0.1s")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "phase=full was not reached in time: trips-v2 is running in canary" in done.stderr


async def test_a_wait_ends_with_6_when_it_is_rolled_back(lived: Lived, say: Say) -> None:
    waiting = asyncio.create_task(say("wait", "--for", "state=completed"))
    await asyncio.sleep(0)
    await lived.controller.rollback("ada", "enough")
    done = await waiting
    assert (done.exit_code, "rolled back" in done.stderr) == (6, True)
    assert (await say("wait", "--for", "state=rolled_back")).exit_code == 0


async def test_a_wait_sees_a_phase_that_is_entered_meanwhile(lived: Lived, say: Say) -> None:
    name = lived.plan.phases[2].name
    waiting = asyncio.create_task(say("wait", "--for", f"phase={name}"))
    await asyncio.sleep(0)
    await lived.controller.promote("ada", "by hand")
    assert (await waiting).exit_code == 0


async def test_a_gate_that_a_person_overrode_has_not_passed(lived: Lived, say: Say) -> None:
    """Leaving the phase by hand says nothing of its gates."""
    gate = "users >= 1,000,000"
    wrong = await say("wait", "--for", f"gate={gate}")
    assert (wrong.exit_code, "the plan has: " in wrong.stderr) == (2, True)
    last = lived.plan.phases[1].gates[-1].text
    status = {g.text: g.verdict.value for g in lived.controller.decision.gates}  # type: ignore[union-attr]
    assert status[last] != "PASS"
    await lived.controller.promote("ada", "by hand")
    named_later = any(gate.text == last for gate in lived.plan.phases[2].gates)
    done = await say("wait", "--for", f"gate={last}", "--timeout", "0.1s")
    assert (done.exit_code, named_later) in ((5, True), (5, False))


@pytest.mark.parametrize("goal", ["", "half", "phase=", "phase=nowhere", "state=happy", "verdict=maybe", "gate=x"])
async def test_a_goal_that_does_not_exist_is_told_at_once(lived: Lived, say: Say, goal: str) -> None:
    done = await say("wait", "--for", goal)
    assert (done.exit_code, done.stdout, "Traceback" in done.stderr) == (2, "", False)


async def test_a_wait_outlives_the_controller(tmp_path: Path) -> None:
    """Its first look finds nobody; the controller that answers later is found by its control file."""
    folder = tmp_path / "state" / "trips-v2"
    folder.mkdir(parents=True)
    command = ["wait", "--for", "phase=canary", "--timeout", "60s", "--state", str(tmp_path / "state")]
    waiting = asyncio.create_task(asyncio.to_thread(CliRunner().invoke, main, command))
    made = await Lived().begin(hours=0)
    await asyncio.sleep(0.2)
    served = served_with(made.controller, made.store, made.telemetry, made.clock, tmp_path)
    async with serving(served) as url:
        Control(rollout="trips-v2", url=url, token=TOKEN, plan="", pid=1).write(folder)
        done = await waiting
    assert done.exit_code == 0


async def test_events_are_followed_as_they_happen(lived: Lived, tmp_path: Path) -> None:
    from crossfade.app.client import Client, Target  # noqa: PLC0415
    from crossfade.app.control import read_control  # noqa: PLC0415
    from crossfade.app.terminal.follow import followed  # noqa: PLC0415

    control = read_control(tmp_path / "state" / "trips-v2")
    found: list[Any] = []
    seen = threading.Event()

    def follow() -> None:
        target = Target(url=control.url, token=control.token, rollout="trips-v2")
        for event in followed(lambda: Client(target), 0):
            found.append(event)
            if event["kind"] == "Paused":
                seen.set()
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    await lived.controller.pause("ada", "lunch")
    assert await asyncio.to_thread(seen.wait, 20)
    assert [event["revision"] for event in found] == list(range(1, len(found) + 1))


def test_half_a_message_of_a_stream_is_none() -> None:
    lines = [
        b"retry: 2\n",
        b"\n",
        b": still here\n",
        b"\n",
        b"id: 1\n",
        b'data: {"revision": 1}\n',
        b"\n",
        b'data: {"re',
    ]
    assert list(messages(iter(lines))) == [{"revision": 1}]


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90.0), ("1h30m", 5400.0), ("0.5s", 0.5), ("2w", 1_209_600.0)])
def test_durations_are_read(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "h", "-5m", "5 m", "5m!"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        seconds(text)


def test_evidence_that_is_missing_or_without_end_is_told() -> None:
    assert odds(None, 1.0) == "- of 2.7:1"
    assert odds(1000.0, 6.9078) == "over 1,000,000:1 of 1,000:1"
    assert odds(1.0, None) == "-"
    assert band({"ratio": 1.0, "ratio_low": None, "ratio_high": None}) == "1.00 (0..?)"
