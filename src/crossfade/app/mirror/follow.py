"""Questions out of an access log that is being written: real requests, seconds after they were answered.

V1's own log also gets the mirror's requests; they are told apart, or the mirror would go on asking itself.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from crossfade.app.mirror.questions import LINE_BYTES_MAX, Question, Questions
from crossfade.app.mirror.run import AGENT, Places
from crossfade.errors import UsageError
from crossfade.ports import Clock

WAITING_MAX = 1000
"""Questions that wait to be asked; where more come than may be asked, the oldest go."""
_PIECE = 1024 * 1024
_LATE_S = 5.0
"""How long after the last moment of an answer its line may come."""


class Following:
    """Gives new requests of a log as questions, and None while there is none; `left_out` is that of `questions`."""

    def __init__(
        self, questions: Questions, path: Path, places: Places, clock: Clock, *, share: float = 1.0, timeout_s: float
    ) -> None:
        """Follow from the log's end on; UsageError where it can't be read, or is no file.

        `share`: of the requests that are taken. `timeout_s`: how long the mirror waits for an answer.
        """
        self._questions, self._path, self._clock, self._share = questions, path, clock, share
        self._own_for = timeout_s + _LATE_S
        self._paths = [*(2 * [urlsplit(url).path for url in places.v1[:1]]), urlsplit(places.v2[0]).path]
        self._own: dict[str, deque[float]] = {}
        """Until when lines of what we asked ourselves may come, by path and query."""
        self._asked: deque[tuple[float, str]] = deque()
        """The same in the order of time."""
        self._waiting: deque[Question] = deque()
        self._seen = 0
        self._rest = b""
        self._skipping = False
        """The line that is being written is longer than any that is read."""
        try:
            if not path.is_file():
                raise UsageError(f"{path} is no file that can be followed; name an access log that is being written")
            self._file: IO[bytes] = path.open("rb")
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror or error}") from None

    def __iter__(self) -> Iterator[Question | None]:
        """Give questions without end; UsageError where the log can't be read any more."""
        try:
            while True:
                self._read()
                if not self._waiting:
                    yield None
                    continue
                question = self._waiting.popleft()
                self._expect(question)
                yield question
        finally:
            self._file.close()

    def _read(self) -> None:
        """Take what was written since; go on in the new file where the log was put aside or cut."""
        try:
            self._read_on()
            if self._moved():
                self._read_on()  # what was written until it was put aside
                self._take(self._rest)
                self._rest, self._skipping = b"", False
                old, self._file = self._file, self._path.open("rb")
                old.close()
                self._read_on()
        except FileNotFoundError:
            return  # put aside, and the next is not there yet
        except OSError as error:
            raise UsageError(f"{self._path} can't be read any more: {error.strerror or error}") from None

    def _moved(self) -> bool:
        kept, found = os.fstat(self._file.fileno()), self._path.stat()
        return (kept.st_dev, kept.st_ino) != (found.st_dev, found.st_ino) or found.st_size < self._file.tell()

    def _read_on(self) -> None:
        while piece := self._file.read(_PIECE):
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                if self._skipping:
                    self._skipping = False
                else:
                    self._take(line)
            if len(self._rest) > LINE_BYTES_MAX:
                self._rest, self._skipping = b"", True

    def _take(self, line: bytes) -> None:
        """Put a line's request among those that wait, if it is a client's and of the share."""
        if len(line) > LINE_BYTES_MAX:
            return
        request, left_out = self._questions.request(line), self._questions.left_out
        if request is None:
            return
        if self._is_own(request[1]) or AGENT.encode() in line:
            left_out["the mirror's own"] += 1
            return
        self._seen += 1
        if zlib.crc32(line, self._seen) >= self._share * 2**32:
            return
        for question in self._questions.question(*request):
            if len(self._waiting) >= WAITING_MAX:
                self._waiting.popleft()
                left_out["came faster than they may be asked"] += 1
            self._waiting.append(question)

    def _expect(self, question: Question) -> None:
        until = self._clock.monotonic() + self._own_for
        for path in self._paths:
            target = path + question.rest
            self._own.setdefault(target, deque()).append(until)
            self._asked.append((until, target))

    def _is_own(self, url: str) -> bool:
        """Tell whether this is one that we asked, which is then expected once less."""
        now = self._clock.monotonic()
        while self._asked and self._asked[0][0] < now:
            _, target = self._asked.popleft()
            expected = self._own.get(target)
            while expected and expected[0] < now:
                expected.popleft()
            if not expected:
                self._own.pop(target, None)
        expected = self._own.get(url)
        if not expected:
            return False
        expected.popleft()
        return True
