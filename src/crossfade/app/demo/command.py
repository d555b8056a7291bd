"""`crossfade demo`: plays the script in the world, shows it, writes the report, and leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from crossfade.adapters.system import SystemClock
from crossfade.app.demo.board import Board, BreakerChange, Mark, Outage
from crossfade.app.demo.processes import Children
from crossfade.app.demo.report import Record, headline, markdown, went_well
from crossfade.app.demo.show import LiveShow, PlainShow, Show
from crossfade.app.demo.story import Act, Look, Scene, Script, Story
from crossfade.app.demo.world import BREAKER_COOLDOWN_S, DEFECT, WEATHER_KEEP_S, World, WorldSettings
from crossfade.errors import ConflictError, CrossfadeError, UnreachableError

LOOK_S = 0.25
SILENT_S = 5.0
"""How long the controller may not answer."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What `crossfade demo` can be told."""

    speed: float = 24_000.0
    """Plan seconds per real second: a week in 25 s, the whole plan in less than five minutes."""
    users: int = 2000
    rate: float = 720.0
    """Mean requests per real second: 18,000 in a week of the plan, which its margins are made for."""
    seed: int = 1
    report: Path = Path("crossfade-demo/report.md")
    no_defect: bool = False
    no_outage: bool = False
    keep: bool = False
    plain: bool = False


def run_demo(options: DemoOptions) -> int:
    """Run the demo and return the exit code: 0 as written, 1 otherwise, 128 + n where signal n ended it."""
    show: Show = PlainShow() if options.plain or not sys.stdout.isatty() else LiveShow()
    return asyncio.run(Demo(options, show).run())


class Demo:
    """One run."""

    def __init__(self, options: DemoOptions, show: Show) -> None:
        self._options = options
        self._show = show
        self._clock = SystemClock()
        self._folder = Path(tempfile.mkdtemp(prefix="crossfade-demo-"))
        self._children = Children(self._folder, self._clock)
        settings = WorldSettings(
            folder=self._folder, speed=options.speed, users=options.users, rate=options.rate, seed=options.seed
        )
        self._world = World(settings, self._children, self._clock)
        self._signal: signal.Signals | None = None
        self._began = self._clock.monotonic()
        self._answered = self._began
        """When the controller last answered."""
        self._busy: asyncio.Task[None] | None = None
        """An act that takes longer than a look."""
        self._anchor: tuple[float, float] | None = None
        """Plan time and wall time of the same moment."""
        self._doubt_s = float("inf")

    async def run(self) -> int:
        """Play, report, and clean up, whatever happens."""
        self._listen()
        code, trouble = 1, ""
        try:
            code = await self._play()
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            code = 128 + self._signal
        except CrossfadeError as error:
            trouble = str(error)
        finally:
            with contextlib.suppress(OSError):  # the terminal may be gone, which is no reason to leave processes
                self._show.close()
            await self._clean_up()
        self._say_last(code, trouble)
        return code

    def _say_last(self, code: int, trouble: str) -> None:
        kept = self._options.keep or code == 1
        if not kept:
            shutil.rmtree(self._folder, ignore_errors=True)
        lines = [
            f"crossfade: {trouble}" if trouble else "",
            f"logs and state are kept in {self._folder}" if kept else "",
            f"ended by {self._signal.name}; no process is left" if self._signal is not None else "",
        ]
        with contextlib.suppress(OSError):
            for line in filter(None, lines):
                click.echo(line, err=True)

    def _listen(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: signal.Signals) -> None:
            if self._signal is not None:
                self._children.hurry()
            elif task is not None:
                self._signal = number
                task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, stop, number)

    async def _clean_up(self) -> None:
        if self._busy is not None:
            self._busy.cancel()
        await self._children.stop_all()

    # ── playing ─────────────────────────────────────────────────────────────────────────────────────────

    async def _play(self) -> int:
        options = self._options
        waiting: list[dict[str, Any]] = []
        await self._world.start(self._show.say, waiting.append)
        variant = self._world.variant
        for difference in variant.differences:
            self._show.say(f"the demo's plan differs from trips-v2: {difference}")
        board = Board(variant.plan, options.speed)
        soak = max(phase.soak_s for phase in variant.plan.phases)
        script = Script.at_speed(options.speed, soak, defect=not options.no_defect, outage=not options.no_outage)
        story = Story(script=script)
        self._answered = self._began = self._clock.monotonic()
        while story.scene is not Scene.OVER:
            await self._look(board, story)
            while waiting:
                board.see_users(waiting.pop(0), self._elapsed())
            self._show.draw(board, self._elapsed())
            await self._clock.sleep(LOOK_S)
        return await self._finish(board, story.failure)

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._began

    async def _look(self, board: Board, story: Story) -> None:
        if self._busy is not None and self._busy.done():
            self._busy.result()
            self._busy = None
        gone = self._world.gone() if self._busy is None else None
        if gone is not None:
            raise CrossfadeError(f"{gone.name} ended by itself: {gone.last_words()}")
        if not await self._ask(board):
            return
        for change in self._world.v2_log.transitions():
            board.see_breaker(
                BreakerChange(elapsed=self._elapsed(), old=change.old, new=change.new, reason=change.reason)
            )
        status = board.status
        look = Look(
            at=self._clock.monotonic(),
            state=status["state"],
            phase=status["phase"]["name"],
            attempt=status["attempt"],
            reason=_reason(status),
            awaits_approval=board.awaits_approval,
            breaker=board.breaker_state,
            v2_ready=self._busy is None,
        )
        recovering = story.scene is Scene.RECOVERING
        for act in story.step(look):
            await self._do(act, board)
        if recovering and story.scene is Scene.RISING and board.outage is not None and board.lines:
            board.outage.after = board.lines[-1]

    async def _ask(self, board: Board) -> bool:
        """Look at the controller; False where it does not answer, CrossfadeError where that lasts."""
        asked = self._clock.now()
        try:
            status, events = await asyncio.to_thread(self._world.look, len(board.events))
        except UnreachableError as error:
            if self._clock.monotonic() - self._answered > SILENT_S:
                raise CrossfadeError(f"the controller has been silent for {SILENT_S:g} s: {error}") from None
            return False
        self._answered = self._clock.monotonic()
        first = board.started_at is None
        board.see_events(events)
        board.see_status(status)
        self._tie(status["now"], asked)
        if first:
            self._began = self._answered - board.elapsed(status["now"])
        return True

    def _tie(self, plan_now: float, asked: float) -> None:
        """Keep the best-known pair of plan and wall time: that of the fastest answer."""
        answered = self._clock.now()
        if answered - asked < self._doubt_s:
            self._doubt_s = answered - asked
            self._anchor = (plan_now, answered)

    def _wall(self, plan_at: float) -> float:
        plan, wall = self._anchor or (plan_at, self._clock.now())
        return wall + (plan_at - plan) / self._options.speed

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────

    async def _do(self, act: Act, board: Board) -> None:
        note: Callable[[str], None] = lambda text: board.note(self._elapsed(), Mark.DEMO, text)  # noqa: E731
        match act:
            case Act.PLANT_DEFECT:
                board.defect_at = self._elapsed()
                note(f"V2 now fails {DEFECT:.0%} of its requests: a defect; a rollback is expected")
                await self._world.plant_defect()
            case Act.REDEPLOY:
                board.defect_at = None
                note("V2 is fixed and redeployed")
                self._busy = asyncio.create_task(self._world.redeploy())
            case Act.RETRY:
                note("asking for a retry")
                board.rollbacks[-1].retried = self._elapsed()
                await self._world.retry()
            case Act.BEGIN_OUTAGE:
                note("the weather provider hangs: the breaker is expected to open, flights and hotels to stay")
                board.outage = Outage(begun=self._elapsed(), before=board.lines[-1])
                await self._world.begin_outage()
            case Act.END_OUTAGE:
                await self._world.end_outage()
                note("the weather provider answers again")
                if board.outage is not None:
                    board.outage.ended = self._elapsed()
            case Act.APPROVE:
                note(f"every other gate has passed: the demo approves {board.status['phase']['name']} as `demo`")
                try:
                    await self._world.approve()
                except ConflictError as error:
                    note(f"the approval was refused: {error}")

    # ── ending ──────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self, board: Board, failure: str | None) -> int:
        seconds = self._elapsed()
        rollbacks = [
            (self._wall(r.at) - r.took_s, None if r.retried is None else self._wall_of_elapsed(r.retried))
            for r in board.rollbacks
        ]
        summary = await self._world.stop_users(rollbacks)
        await self._ask(board)
        options = self._options
        record = Record(
            board=board,
            summary=summary,
            failure=failure,
            seconds=seconds,
            users=options.users,
            rate=options.rate,
            seed=options.seed,
            processors=os.cpu_count() or 1,
            defect=DEFECT,
            cooldown_s=BREAKER_COOLDOWN_S,
            keep_s=WEATHER_KEEP_S,
            differences=self._world.variant.differences,
        )
        self._show.draw(board, seconds)
        self._show.close()
        await asyncio.to_thread(_write, options.report, markdown(record))
        self._show.end(headline(record), options.report, markdown(record))
        return 0 if went_well(record) else 1

    def _wall_of_elapsed(self, elapsed: float) -> float:
        return self._clock.now() - (self._elapsed() - elapsed)


def _reason(status: dict[str, Any]) -> str:
    decision = status["decision"] or {}
    return str(status["rollback_reason"] or decision.get("sentence") or "no decision yet")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
