"""Notices through the apprise library, to chats, e-mail and what else it knows: `pip install crossfade[apprise]`.

Its calls block, so they run in a thread. One that hangs keeps its thread and nothing else; no second one is begun
for the same URLs meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crossfade.core.notices import Notice
from crossfade.core.places import apprise_urls
from crossfade.core.plan import NoticeKind
from crossfade.errors import NoticeRefusedError, NotTakenError

TIMEOUT_S = 30.0
_WORDS = {
    NoticeKind.ROLLBACK: "failure",
    NoticeKind.ABORTED: "failure",
    NoticeKind.HOLD: "warning",
    NoticeKind.BLIND: "warning",
    NoticeKind.ALERT: "warning",
    NoticeKind.BREAKER_OPEN: "warning",
    NoticeKind.PHASE_PROMOTED: "success",
    NoticeKind.COMPLETED: "success",
}
"""How apprise calls what a notice is; the others are `info`, and so is what is over."""


class Apprise:
    """Keeps `ports.Notifier`. The URLs are read anew for each notice."""

    def __init__(self, urls: Callable[[], str], *, timeout_s: float = TIMEOUT_S) -> None:
        """`urls` returns one a line, and raises ValueError where they aren't there."""
        self._urls, self._timeout_s = urls, timeout_s
        self._taken: set[tuple[str, str]] = set()
        """Notice and URL, of the notice that is being sent: what one chat has taken is not sent to it again."""
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="apprise")
        self._hanging: asyncio.Future[bool] | None = None

    @property
    def shown(self) -> str:
        """Return where the notices go, as it may be logged."""
        try:
            return "apprise " + ", ".join(sorted({_kind(url) for url in apprise_urls(self._urls())}))
        except ValueError:
            return "apprise"

    async def send(self, notice: Notice) -> str:
        """Send a notice to each URL; return how many took it. Raises as `ports.Notifier` says."""
        try:
            urls = apprise_urls(self._urls())
        except ValueError as error:
            raise NotTakenError(f"apprise: {error}") from None
        if self._hanging is not None and not self._hanging.done():
            raise NotTakenError(f"{self.shown} still hangs over the notice before")
        self._taken = {one for one in self._taken if one[0] == notice.id}
        failed, refused = [], []
        for url in urls:
            try:
                if (notice.id, url) not in self._taken and not await self._sent(url, notice):
                    failed.append(url)
            except NoticeRefusedError as error:
                refused.append(error)
        if failed:
            raise NotTakenError(f"{len(failed)} of {len(urls)} did not take it: {', '.join(map(_kind, failed))}")
        if refused:
            raise refused[0]
        return f"taken by {len(urls)}"

    async def close(self) -> None:
        """Let go of the thread, without waiting for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sent(self, url: str, notice: Notice) -> bool:
        self._hanging = asyncio.get_running_loop().run_in_executor(self._threads, _notify, url, notice)
        try:
            async with asyncio.timeout(self._timeout_s):
                taken = await asyncio.shield(self._hanging)
        except TimeoutError:
            raise NotTakenError(f"{_kind(url)} did not answer within {self._timeout_s:g} s") from None
        if taken:
            self._taken.add((notice.id, url))
        return taken


def _kind(url: str) -> str:
    """Return what may be shown of a URL: all behind its scheme may be a token, the host as well."""
    return f"{url.partition('://')[0]}://..."


def _notify(url: str, notice: Notice) -> bool:
    """Send to one URL; tell whether it was taken. Raises NoticeRefusedError where apprise can't know how."""
    library = _library()
    target = library.Apprise()
    if not target.add(url):
        raise NoticeRefusedError(f"apprise can't read a URL {_kind(url)}; see https://github.com/caronc/apprise")
    word = "info" if notice.over else _WORDS.get(notice.kind, "info")
    over = " (over)" if notice.over else ""
    taken = target.notify(
        title=f"{notice.rollout}: {notice.kind}{over}",
        body=f"{notice.sentence}\n{notice.link}" if notice.link else notice.sentence,
        notify_type=library.NotifyType(word),
        body_format=library.NotifyFormat.TEXT,
    )
    return bool(taken)


def _library() -> Any:
    try:
        import apprise  # noqa: PLC0415 - an extra, and half a second to import
    except ImportError:
        raise NoticeRefusedError("apprise is not installed: pip install 'crossfade[apprise]'") from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its own lines hold URLs
    return apprise
