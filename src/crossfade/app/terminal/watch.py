"""`crossfade watch`: a rollout on the screen as it goes, or as lines where no screen can be drawn."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click
from rich.console import Console
from rich.live import Live

from crossfade.adapters.system import SystemClock
from crossfade.app.client import Client
from crossfade.app.terminal import frame, looks
from crossfade.app.terminal.escaped import escaped, escaped_all
from crossfade.app.terminal.follow import followed
from crossfade.app.terminal.frame import View
from crossfade.core.words import moment
from crossfade.errors import CrossfadeError, UnreachableError

LOOK_S = 1.0
"""Real seconds between looks, when no event asks for one sooner."""
TREND_S = 10.0

Connect = Callable[[], Client]


def on_screen() -> bool:
    """Tell whether a screen can be drawn: at a terminal that knows how, and where colours are not unwanted."""
    able = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return able and not os.environ.get("NO_COLOR")


class Looking:
    """Looks again and again, and keeps what was seen last when nobody answers."""

    def __init__(self, connect: Connect, clock: SystemClock) -> None:
        self._connect, self._clock = connect, clock
        self._trend_at: float | None = None
        self._since: float | None = None
        self.view = View()

    def look(self) -> View:
        """Return what is known now; raises what the controller refuses with, such as a token that is not valid."""
        try:
            self._look(self._connect())
        except CrossfadeError as error:
            if type(error) not in (UnreachableError, CrossfadeError):  # the latter: a 5xx, such as a store that is away
                raise
            self._since = self._since or self._clock.now()
            self.view.gone = (
                f"no answer since {moment(self._since)[11:]} UTC; what follows is of before. {escaped(str(error))}"
            )
        return self.view

    def _look(self, client: Client) -> None:
        real = self._clock.monotonic()
        trend = self.view.trend
        if self._trend_at is None or real - self._trend_at >= TREND_S:
            trend, self._trend_at = client.get("/trend?points=60"), real
        self.view = View(
            status=escaped_all(client.get("")),
            phases=escaped_all(client.get("/phases")),
            metrics=escaped_all(client.get("/metrics")),
            decisions=escaped_all(list(client.pages("/decisions?limit=3", 3))),
            trend=escaped_all(trend),
        )
        self._since = None


def watch(connect: Connect) -> None:
    """Show a rollout until q or Ctrl-C; raises KeyboardInterrupt at the latter."""
    looking = Looking(connect, SystemClock())
    looking.look()
    if on_screen():
        _screen(looking, connect)
    else:
        _lines(looking, connect)


def _lines(looking: Looking, connect: Connect) -> None:
    """Print what happens and each change of where the rollout is."""
    last = ""
    wake, woken = os.pipe()
    _follow(connect, looking, woken, lambda event: click.echo(looks.event(escaped_all(event), wide=True)))
    while True:
        told = frame.summary(looking.view) if not looking.view.gone else frame.word(looking.view)
        if told != last:
            last = told
            click.echo(f"     {moment(looking.view.status['now']) if looking.view.status else '-'}  {told}")
        _rest(wake)
        looking.look()


def _screen(looking: Looking, connect: Connect) -> None:
    console = Console()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    _follow(connect, looking, woken, lambda _: None)
    with _keys(woken), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            width, height = console.size
            live.update(frame.draw(looking.view, width, height), refresh=True)
            if _rest(wake, sys.stdin.fileno()) == b"q":
                return
            looking.look()


def _follow(connect: Connect, looking: Looking, woken: int, tell: Callable[[dict[str, object]], None]) -> None:
    """Have events told, and wake whoever rests."""
    after = looking.view.status.get("revision")

    def run() -> None:
        with suppress(CrossfadeError):  # a refusal is met by the next look as well
            for event in followed(connect, after):
                tell(event)
                with suppress(BlockingIOError):
                    os.write(woken, b".")

    threading.Thread(target=run, daemon=True).start()


def _rest(wake: int, keys: int | None = None) -> bytes:
    """Wait for an event, a key, a new size of the window, or the next look; return the key."""
    ready, _, _ = select.select([wake] if keys is None else [wake, keys], [], [], LOOK_S)
    if wake in ready:
        os.read(wake, 4096)
    return os.read(keys, 1).lower() if keys is not None and keys in ready else b""


@contextmanager
def _keys(woken: int) -> Iterator[None]:
    """Have single keys come without echo, and a change of the window's size wake whoever rests."""
    import termios  # not on every platform
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    signal.signal(signal.SIGWINCH, lambda *_: None)
    old = signal.set_wakeup_fd(woken)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
