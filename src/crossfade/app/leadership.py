"""What one `serve` opens on this machine while it leads a rollout, and lets go of when it doesn't."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crossfade.adapters.collector import Collector
from crossfade.adapters.haproxy import HaproxyProxy
from crossfade.app.control import Claim
from crossfade.engine.leadership import Leading
from crossfade.ports import MetricsSource

PORT_FILE = "collector.port"


@dataclass(slots=True, kw_only=True)
class Leadership(Leading):
    """Whether this process leads a rollout, with the claim on its folder, the proxy, the collector and the sources."""

    folder: Path
    claim: Claim
    proxy: HaproxyProxy
    collector: Collector
    sources: Sequence[MetricsSource]

    def predecessor(self) -> str:
        """Return who held the lease under the folder's claim, where that is ours now: they live no more."""
        self.claim.take()
        return self.claim.predecessor

    async def open(self) -> None:
        """Listen for the proxy's reports, and begin with the sources."""
        self.claim.note(self.lease.holder)
        self.claim.predecessor = ""
        self.collector.use_port(_free_port(self.folder / PORT_FILE))
        self.proxy.collector = ":".join(map(str, self.collector.address))
        await self.collector.start()
        self.collector.closed_ticks()  # those from before we listened are another's
        for source in self.sources:
            await source.start()

    async def shut(self) -> None:
        """Let go of proxy, sources and collector; the proxy serves on."""
        await self.proxy.close()
        for source in self.sources:
            await source.close()
        await self.collector.close()

    async def end(self, *, stop_proxy: bool) -> None:
        """Let go of everything, the claim last; with the proxy where it is asked for and ours to stop."""
        if self.leads and stop_proxy and self.controller.nodes:  # unasked, it may be another controller's
            await self.proxy.stop()
        await self.release()
        self.claim.close()


def _free_port(path: Path) -> int:
    """Return the collector's port: the last one, because a running proxy reports to it, or another if it is taken.

    It is where the last leader on this machine was stopped and did not end.
    """
    wanted = 0
    with suppress(OSError, ValueError):
        wanted = int(path.read_text())
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found = int(probe.getsockname()[1])
            path.write_text(str(found))
            return found
    return 0
