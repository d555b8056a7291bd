"""Questions out of a log that is being written: which are taken, and what happens when the log is put aside."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.mirror.serving import TRIP, serving, write_plan

from crossfade.adapters.system import SystemClock
from crossfade.app.cli import main
from crossfade.app.mirror.follow import WAITING_MAX, Following
from crossfade.app.mirror.questions import LINE_BYTES_MAX, Question, Questions
from crossfade.app.mirror.run import Places, Running, mirror
from crossfade.app.planfile import load_plan
from crossfade.core.mirror.rules import Mirror
from crossfade.core.plan import Plan
from crossfade.core.verdict import Verdict

COMBINED = '10.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "{} {} HTTP/1.1" 200 512 "-" "{}"\n'


def line(target: str, agent: str = "curl/8.0", method: str = "GET") -> str:
    return COMBINED.format(method, target, agent)


@dataclass
class Log:
    path: Path
    questions: Questions
    following: Iterator[Question | None]

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def taken(self) -> list[str]:
        """Return what is there to be asked now."""
        found = []
        while (question := next(self.following)) is not None:
            found.append(question.rest)
        return found


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_plan(tmp_path, 1, 2))


@pytest.fixture
def follow(tmp_path: Path, plan: Plan) -> Callable[..., Log]:
    def begin(old: str = "", **options: Any) -> Log:
        path = tmp_path / "access.log"
        path.write_text(old)
        reading = Questions(plan, Mirror())
        options = {"timeout_s": 10.0, **options}
        return Log(path, reading, iter(Following(reading, path, Places.of(plan), SystemClock(), **options)))

    return begin


def test_only_what_comes_from_now_on_is_taken_and_only_whole_lines(follow: Callable[..., Log]) -> None:
    log = follow(line("/v1/trips?n=old"))
    assert log.taken() == []
    log.write(line("/v1/trips?n=1") + line("/trips?n=2") + line("/v1/trips?n=3")[:70])
    assert log.taken() == ["?n=1", "?n=2"]
    log.write(line("/v1/trips?n=3")[70:])
    assert log.taken() == ["?n=3"]
    assert log.taken() == []


def test_what_can_not_be_asked_is_told(follow: Callable[..., Log]) -> None:
    log = follow()
    log.write(line("/v1/trips?n=1", method="POST") + line("/metrics") + "garbage\n\n" + "x" * (2 * LINE_BYTES_MAX))
    assert log.taken() == []
    log.write("the rest of it\n" + line("/v1/trips?n=2"))
    assert log.taken() == ["?n=2"]
    assert log.questions.left_out == Counter(
        {"POST: may change something": 1, "not at the plan's entry": 1, "no request in the line": 1}
    )


def test_a_log_that_is_put_aside_is_read_to_its_end_and_the_next_from_its_beginning(
    follow: Callable[..., Log], tmp_path: Path
) -> None:
    log = follow()
    log.write(line("/v1/trips?n=1"))
    assert log.taken() == ["?n=1"]
    log.write(line("/v1/trips?n=2") + line("/v1/trips?n=3").rstrip("\n"))
    log.path.rename(tmp_path / "access.log.1")
    assert log.taken() == ["?n=2"]  # the last line of the old one may go on
    assert log.taken() == []
    log.write(line("/v1/trips?n=4"))
    assert log.taken() == ["?n=3", "?n=4"]
    log.path.write_text("")  # cut where it is
    assert log.taken() == []
    log.write(line("/v1/trips?n=5"))
    assert log.taken() == ["?n=5"]


def test_a_share_is_about_that_share(follow: Callable[..., Log]) -> None:
    log = follow(share=0.1)
    for part in range(10):
        log.write("".join(line(f"/v1/trips?n={number}") for number in range(1000 * part, 1000 * part + 1000)))
        taken = log.taken()
        assert 60 < len(taken) < 140  # 100 +- 4 standard deviations
        assert len(set(taken)) == len(taken)
    log.write(line("/v1/trips?n=1") * 5000)
    assert 400 < len(log.taken()) < 600  # equal lines as well


def test_of_more_than_may_be_asked_the_latest_wait(follow: Callable[..., Log]) -> None:
    log = follow()
    log.write("".join(line(f"/v1/trips?n={number}") for number in range(WAITING_MAX + 50)))
    taken = log.taken()
    assert (len(taken), taken[0], taken[-1]) == (WAITING_MAX, "?n=50", f"?n={WAITING_MAX + 49}")
    assert log.questions.left_out["came faster than they may be asked"] == 50


@pytest.mark.parametrize("agent", ["crossfade-mirror", "-"])
async def test_the_mirrors_own_requests_in_v1s_log_are_not_asked_again(tmp_path: Path, agent: str) -> None:
    """Whether or not the log tells who asked."""
    path, plan_path = tmp_path / "access.log", tmp_path
    path.write_text("")
    clients = [f"/v1/trips?n={number}" for number in range(20)] * 2

    def logging(target: str, agent: str) -> None:
        with path.open("a") as file:
            file.write(line(target, agent))

    def reply(number: int) -> Any:
        logging(str(v1.asked[number].path_qs), agent)
        return TRIP

    async with serving(reply) as v1, serving(lambda _: TRIP) as v2:
        plan = load_plan(write_plan(plan_path, v1.port, v2.port, "mirror: {limit: 5%}\n"))
        reading = Questions(plan, Mirror())
        following = Following(reading, path, Places.of(plan), SystemClock(), timeout_s=10.0)
        begun: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        mirroring = asyncio.create_task(
            mirror(plan, iter(following), SystemClock(), rate=1000, left_out=reading.left_out, started=begun.set_result)
        )
        running = await begun
        for target in clients:
            logging(target, "curl/8.0")
        async with asyncio.timeout(20):
            while running.tally.compared < len(clients):  # noqa: ASYNC110 - its sums tell nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # long enough for many to come again
        running.stop()
        report = await mirroring
    assert (report.asked, report.left_out) == (40, {"the mirror's own": 80})
    assert len(v2.asked) == 40
    assert report.partial


def test_the_command_finds_a_fault_in_what_a_log_gets(tmp_path: Path) -> None:
    """The whole way, with a writer beside it."""

    async def lived() -> tuple[int | None, str, str]:
        wrong = {**TRIP, "hotels": []}
        async with serving(lambda _: TRIP) as v1, serving(lambda _: wrong) as v2:
            plan = write_plan(tmp_path, v1.port, v2.port, "mirror: {limit: 5%}\n")
            log = tmp_path / "access.log"
            log.write_text("")
            words = ["mirror", str(plan), "--follow", str(log), "--sample", "50%", "--rate", "500/s", "-o", "json"]
            command = await asyncio.create_subprocess_exec(
                *(str(Path(sys.executable).with_name("crossfade")), *words), stdout=PIPE, stderr=PIPE
            )
            ended = asyncio.create_task(command.communicate())
            number = 0
            while not ended.done():
                with log.open("a") as file:
                    file.write("".join(line(f"/v1/trips?n={number}-{one}") for one in range(50)))
                number += 1
                await asyncio.sleep(0.05)
            said, told = await ended
            return command.returncode, said.decode(), told.decode()

    code, said, told = asyncio.run(asyncio.wait_for(lived(), 60))
    report = json.loads(said)
    assert (code, report["verdict"]) == (1, Verdict.FAIL.value)
    assert report["sentence"].startswith("hotels[]: missing item in")
    assert told.startswith("asking 50 % of what ")


def test_nothing_that_comes_is_no_pass(tmp_path: Path) -> None:
    async def lived() -> Any:
        async with serving() as v1, serving() as v2:
            plan = load_plan(write_plan(tmp_path, v1.port, v2.port))
            (tmp_path / "access.log").write_text("")
            following = Following(
                Questions(plan, Mirror()), tmp_path / "access.log", Places.of(plan), SystemClock(), timeout_s=1.0
            )
            return await mirror(plan, iter(following), SystemClock(), for_s=0.3)

    report = asyncio.run(lived())
    assert (report.verdict, report.sentence) == (Verdict.BLIND, "nothing was asked: no question came")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--follow", "nowhere.log"], "nowhere.log is no file that can be followed"),
        (["--follow", "."], "is no file that can be followed"),
        (["--follow", "plan.yaml", "--requests", "plan.yaml"], "--follow and --requests are two places"),
        (["--follow", "plan.yaml", "--sample", "0%"], "--sample: 0% is nobody"),
        (["--follow", "plan.yaml", "--sample", "lots"], "--sample: 'lots' is no share"),
        (["--sample", "10%"], "--sample is of what a log gets"),
    ],
)
def test_words_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path, 1, 2)
    result = CliRunner().invoke(main, ["mirror", "plan.yaml", *arguments])
    assert result.exit_code == 2
    assert said in result.output + str(result.exception)
