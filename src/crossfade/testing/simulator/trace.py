"""What happened in a run, line by line: the last lines for people, and a digest that tells two runs apart."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

from crossfade.testing.clock import ManualClock

LAST_LINES = 30


class Trace:
    """Lines with the real seconds of the clock, who, and what."""

    def __init__(self, clock: ManualClock, *, keep: int | None = LAST_LINES) -> None:
        """Keep the last `keep` lines; None keeps all."""
        self.lines: deque[str] = deque(maxlen=keep)
        self.count = 0
        self._clock = clock
        self._digest = blake2b(digest_size=16)

    def say(self, who: str, what: str) -> None:
        """Add a line."""
        line = f"{self._clock.monotonic():12.6f} {who:<7} {what}"
        self._digest.update(line.encode())
        self.lines.append(line)
        self.count += 1

    @property
    def digest(self) -> str:
        """Return a hash of all lines so far, kept or not."""
        return self._digest.hexdigest()
