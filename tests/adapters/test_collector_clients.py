"""Clients from their requests to the ticks: through a real HAProxy, and as hostile lines to the collector alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import Client as Browser
from tests.adapters.test_collector import NOW, Clock, line
from tests.adapters.test_haproxy_assignment import _world

from crossfade.adapters.collector import Collector, ticks
from crossfade.core.clients.ledger import Calls, Client, Way
from crossfade.core.plan import ClientsRule
from crossfade.ports import REQUEST_LINE

AGENT = "acme-ios/3.2 (iPhone; scale=2) Safari/1"


def calls(*lines: bytes) -> Calls:
    """Feed lines, and return the calls of the tick that closes over them."""
    clock = Clock()
    fed = Collector(clock=clock, tick_s=10.0, lateness_s=5.0, key=b"k", clients=True)
    fed.feed(b"\n".join(lines))
    clock.at += 15
    found = fed.closed_ticks()[0].calls
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "way"),
    [
        ({"version": "v1", "asked": "v1"}, Way.OWN_BY_V1),
        ({"version": "v2", "asked": "v1", "server": "v2a"}, Way.OWN_BY_V2),
        ({"version": "v2", "asked": "v1", "server": "fallback"}, Way.OWN_BY_V1),
        ({"version": "v1"}, Way.ELSE_BY_V1),
        ({"version": "v2", "server": "fallback"}, Way.ELSE_BY_V1),
        ({"version": "v2", "server": "v2a"}, Way.ELSE_BY_V2),
        ({"version": "v2", "status": 500, "server": "v2a"}, Way.ELSE_BY_V2),
    ],
)
def test_a_request_counts_by_what_was_asked_for_and_who_answered(fields: dict[str, object], way: Way) -> None:
    found = calls(line(1, client="acme", **fields), line(2, client="acme", **fields))
    assert found.by_client() == {Client("acme"): [2 if each is way else 0 for each in Way]}


def test_ids_that_mean_the_same_are_one_and_those_that_name_nobody_none() -> None:
    found = calls(
        *(
            line(n, client=name)
            for n, name in enumerate(("acme", "%61cme", "%20acme%0A", "-", "", "%00", "@"), start=1)
        ),
        line(8, client="%40acme"),
        line(9, client="@acme"),
        line(10, client="%F0%9F%98%80"),
        line(11, client="x" * 500),
    )
    assert {(c.name, c.agent): sum(counts) for c, counts in found.by_client().items()} == {
        ("acme", False): 3,
        ("@acme", False): 1,
        ("acme", True): 1,
        ("\N{GRINNING FACE}", False): 1,
        ("x" * 64, False): 1,
    }
    assert sum(found.unnamed) == 4


def test_clients_beyond_those_a_tick_names_are_counted_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "MAX_CLIENTS", 3)
    monkeypatch.setattr(ticks, "MAX_ROWS", 7)
    found = calls(*(line(n, client=f"c{n % 5}") for n in range(10)))
    assert {client.name: sum(counts) for client, counts in found.by_client().items()} == {"c0": 2, "c1": 2, "c2": 2}
    assert sum(found.beyond) == 4


def test_nobodys_requests_and_late_ones_are_no_calls() -> None:
    found = calls(
        line(1, client="a"), line(2, client="b", termination="CR--", status=-1), line(3, NOW - 900, client="c")
    )
    assert [client.name for client in found.by_client()] == ["a"]


def test_without_a_ledger_nothing_is_counted_by_client() -> None:
    clock = Clock()
    fed = Collector(clock=clock, tick_s=10.0, lateness_s=5.0, key=b"k")
    fed.feed(line(client="acme"))
    clock.at += 15
    assert fed.closed_ticks()[0].calls is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, ["-", "-", "-", "-"]),
        (ClientsRule(), ["acme%2C%201", "-", "-", "-"]),
        (ClientsRule(by_agent=True), ["acme%2C%201", "@acme-ios%2F3.2", "-", "@x"]),
        (ClientsRule(believed_from=("127.0.0.0/8",)), ["acme%2C%201", "-", "-", "-"]),
        (ClientsRule(believed_from=("10.0.0.0/8", "::1/128")), ["-", "-", "-", "-"]),
        (ClientsRule(believed_from=("10.0.0.0/8",), by_agent=True), ["@acme-ios%2F3.2", "@acme-ios%2F3.2", "-", "@x"]),
    ],
)
async def test_the_proxy_names_clients_as_the_plan_says(
    tmp_path: Path, rule: ClientsRule | None, expected: list[str]
) -> None:
    async for world in _world(tmp_path, clients=rule):
        browser = Browser(world.port)
        await browser.get("/search", ("X-Client-Id", "acme, 1"), ("User-Agent", AGENT))
        await browser.get("/search", ("X-Client-Id", ""), ("User-Agent", AGENT))
        await browser.get("/search")
        await browser.get("/search", ("User-Agent", "  x y"))
        lines = await world.sink.wait_for(4)
        assert [found.split(",")[REQUEST_LINE.index("client")] for found in lines] == expected
