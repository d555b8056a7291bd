"""V1 retired on real parts: every path and method of it answers 410, V2 serves on, and nothing brings V1 back."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPResponse

import pytest
from tests import strict
from tests.e2e.site import QUERY, Clients, Site, alive, until

pytestmark = pytest.mark.slow

FAST = ("--speed", "60", "--tick", "15", "--lateness", "0.2")
PLAN = """\
crossfade: 1
rollout: trips-v2
api:
  entry: /trips/search
  listen: 127.0.0.1:{listen}
  v1: {{path: /v1/trips/search, upstreams: ["127.0.0.1:{v1}"]}}
  v2: {{path: /v2/trips/search, upstreams: ["127.0.0.1:{v2}"]}}
assignment: {{user: [header X-User-Id], users: 2000}}
metrics: {{failure_rate: {{target: "<= 0.5%", guard: monitor}}}}
phases:
  - name: full
    split: 100%
    soak: 1m
    promote when: [no v1 requests for 1m, approved by a person]
    then: retire v1
deprecation: {{since: 2027-03-01, sunset: 2027-09-01, notice: "https://example.com/ends", successor: /v2/trips/search}}
"""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X-NOBODYS")
V1S = ("/v1/trips/search", f"/v1/trips/search?{QUERY}", "/v1/trips/search/7", "/v1/other", "/v1/", "/elsewhere")
V2S = (f"/trips/search?{QUERY}", f"/v2/trips/search?{QUERY}")

SINCE, SUNSET = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 9, 1, tzinfo=UTC)


def ask(site: Site, method: str, target: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", site.listen, timeout=15)
    try:
        connection.request(method, target, headers={"X-User-Id": "ann"})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def gone(site: Site, method: str, target: str, since: datetime = SINCE, sunset: datetime = SUNSET) -> None:
    answer, body = ask(site, method, target)
    assert answer.status == 410, (method, target, answer.status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    (said,), (until_then,), (links,) = (
        answer.headers.get_all(name) or [] for name in ("Deprecation", "Sunset", "Link")
    )
    assert (strict.deprecation(said), strict.sunset(until_then)) == (since, sunset)
    assert strict.links(links) == {
        "deprecation": "https://example.com/ends",
        "successor-version": "/v2/trips/search",
    }
    assert "Brownout" not in answer.headers
    if method == "HEAD":
        assert body == b""
    else:
        assert {"status": 410, "title": "Gone"}.items() <= json.loads(body).items()


def v2_serves(site: Site) -> None:
    for target in V2S:
        answer, body = ask(site, "GET", target)
        assert (answer.status, b'"weather"' in body) == (200, True), target
        assert answer.headers["Deprecation"] is None


def test_a_retired_v1_is_gone_for_good(site: Site) -> None:
    _, v1, _ = site.services.start()
    services = site.services
    site.plan.write_text(PLAN.format(listen=site.listen, v1=services.v1, v2=services.v2))
    site.serve(*FAST)
    with Clients(site, threads=2) as clients:
        clients.wait_for(20, "v2")
        assert ask(site, "GET", V1S[1])[0].status == 200  # V1's own path, by V2
        assert "it must be completed" in site.verb("retire", "--confirm", "trips-v2", code=3)
        assert "--confirm trips-v2, not 'trips'" in site.verb("retire", "--confirm", "trips", code=2)
        site.verb("approve")
        until("all gates have passed", lambda: site.status()["state"] == "completed")
        hint = "no rollback undoes: crossfade retire trips-v2"
        until("the next look says what is left", lambda: hint in site.status()["decision"]["reason"])
        archived = ("--archive-to", str(site.folder / "attic"), "--build", "trips@1")
        failed = site.verb("retire", "--confirm", "trips-v2", "--archive", "false", *archived, code=1)
        assert "false ended with 1; nothing was retired" in failed
        assert site.status()["state"] == "completed"
        site.verb("retire", "--confirm", "trips-v2", "--reason", "nobody asks", "--archive", "true", *archived)
        manifest = (site.folder / "attic" / "manifest.json").read_bytes()
        for method in METHODS:
            for target in V1S:
                gone(site, method, target)
        v1.process.send_signal(signal.SIGSTOP)  # whoever asked it would wait
        try:
            v2_serves(site)
            assert "crossfade resurrect" in site.verb("rollback", code=3)
            refused = site.program("rollback", "--direct", "--state", str(site.state))
            assert (refused.returncode, "nothing can be rolled back" in refused.stdout) == (3, True)
            v2_serves(site)
            clients.wait_for(20, "v2")
        finally:
            v1.process.send_signal(signal.SIGCONT)
    assert clients.counts["v1"] == 0
    kinds = [event["kind"] for event in site.events()]
    assert kinds[-3:] == ["RetirementStarted", "SplitApplied", "V1Retired"]
    assert site.events()[-3]["data"]["archive"] == hashlib.sha256(manifest).hexdigest()
    assert set(json.loads(manifest)["files"]) == {"plan.json", "plan.yaml", "events.jsonl", "report.json"}
    before = site.proxy_pid()
    os.kill(before, signal.SIGKILL)
    until("the proxy is back", lambda: site.proxy_pid() != before and alive(site.proxy_pid()))
    gone(site, "GET", V1S[1])
    site.kill()
    gone(site, "GET", V1S[1])
    site.serve(*FAST)
    assert site.status()["state"] == "retired"
    gone(site, "POST", V1S[0])
    v2_serves(site)
    services.stop_v2()
    assert ask(site, "GET", V2S[0])[0].status == 503  # V1 does not answer in its place
