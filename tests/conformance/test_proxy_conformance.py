"""The fake and the real HAProxy keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import free_port

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.system import SystemClock
from crossfade.core.plan import Api, AssignmentRule, Key, KeySource, Phase, Plan, Upstream
from crossfade.core.split import Split
from crossfade.testing.conformance.proxy import COHORTS, ProxyConformance, Subject
from crossfade.testing.proxy import FakeProxy, FakeRollback


class TestFakeProxy(ProxyConformance):
    @pytest.fixture
    async def subject(self) -> Subject:
        proxy = FakeProxy(cohorts=COHORTS)
        await proxy.start()

        async def crash() -> None:
            proxy.crash()
            await proxy.start()

        async def cut_off() -> None:
            proxy.crash()

        return Subject(proxy=proxy, switch=FakeRollback(proxy), crash=crash, cut_off=cut_off, come_back=proxy.start)


class TestHaproxy(ProxyConformance):
    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[Subject]:
        plan = Plan(
            name="conformance",
            api=Api(
                entry="/search",
                v1=Upstream(path="/v1/search", upstreams=("127.0.0.1:1",)),
                v2=Upstream(path="/v2/search", upstreams=("127.0.0.1:2",)),
                listen=f"127.0.0.1:{free_port()}",
            ),
            assignment=AssignmentRule(
                user=(Key(KeySource.HEADER, "X-User-Id"),),
                salt=7,
                cohorts={name: frozenset({f"user of {name}"}) for name in COHORTS},
            ),
            metrics=(),
            phases=(Phase(name="all", split=Split(), target=0, soak_s=0, gates=()),),
        )
        proxy = HaproxyProxy(plan, tmp_path / "state", collector="127.0.0.1:1", clock=SystemClock())
        switch = HaproxyRollback(tmp_path / "state")
        await proxy.start()

        async def cut_off() -> None:
            await proxy._stop_watching()
            assert proxy._process is not None
            proxy._process.send(9)
            await proxy._process.ended()

        async def crash() -> None:
            await cut_off()
            assert await proxy.ensure_running()

        async def come_back() -> None:
            assert await proxy.ensure_running()

        yield Subject(proxy=proxy, switch=switch, crash=crash, cut_off=cut_off, come_back=come_back)
        await switch.close()
        await proxy.stop()
