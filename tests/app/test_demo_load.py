"""What the demo's users count."""

from __future__ import annotations

import orjson
import pytest

from crossfade.adapters.load import Answer
from crossfade.app.demo.tally import Seen, Tally, read
from crossfade.core.load.latency import Latencies

# ── what answers say ──


def _json(body: object, status: int = 200, kind: bytes = b"application/json") -> Answer:
    return Answer(status=status, headers={b"content-type": kind}, body=orjson.dumps(body))


def test_versions_are_told_by_the_weather() -> None:
    v1 = {"flights": [], "hotels": [{"name": "x"}]}
    assert read(_json(v1)) == Seen(status=200, version="v1")
    assert read(_json(v1 | {"weather": {"status": "ok"}})) == Seen(status=200, version="v2", weather="ok")
    assert not read(_json({"hotels": [1]})).complete


def test_the_origins_errors_are_answers_and_the_proxys_are_not() -> None:
    assert read(_json({}, 500, b"application/problem+json")).by_origin
    assert not read(Answer(status=503, headers={b"content-type": b"text/html"}, body=b"<html>")).by_origin
    tally = Tally(1)
    tally.add(0, read(Answer(status=503, body=b"<html>")), 1.0, 1.1, retried=False)
    assert tally.line(2.0)["lost"] == 1


# ── what is counted ──


def _seen(version: str) -> Seen:
    return Seen(status=200, version=version, weather="ok" if version == "v2" else None)


def _told(*answers: tuple[str, float, float]) -> Tally:
    tally = Tally(1)
    for version, sent, answered in answers:
        tally.sent += 1
        tally.add(0, _seen(version), sent, answered, retried=False)
    return tally


def test_moving_up_is_no_change_back() -> None:
    summary = _told(("v1", 1, 2), ("v2", 3, 4), ("v2", 5, 6)).summary([])
    assert (summary["moved_back"], summary["violations"]) == (0, 0)


def test_moving_back_without_a_rollback_violates_stickiness() -> None:
    assert _told(("v2", 1, 2), ("v1", 30, 31)).summary([(50.0, 60.0)])["violations"] == 1


def test_moving_back_by_a_rollback_is_explained() -> None:
    summary = _told(("v1", 1, 2), ("v2", 10, 11), ("v1", 30, 31)).summary([(20.0, 40.0)])
    assert (summary["moved_back"], summary["violations"]) == (1, 0)


def test_requests_under_way_at_once_have_no_order() -> None:
    assert _told(("v2", 10, 12), ("v1", 11, 13)).summary([])["moved_back"] == 0


def test_the_last_v2_request_after_a_rollback_is_timed() -> None:
    tally = _told(("v2", 19.9, 20.1), ("v2", 20.004, 20.2), ("v2", 50, 51))
    assert tally.summary([(20.0, 45.0)])["last_v2_after_s"] == [pytest.approx(0.004)]
    assert tally.summary([(30.0, 45.0)])["last_v2_after_s"] == [None]


def test_errors_count_for_the_version_their_user_had() -> None:
    tally = _told(("v2", 1, 2))
    tally.add(0, Seen(status=500, version=None), 3, 4, retried=False)
    line = tally.line(5.0)
    assert (line["v2"]["answers"], line["v2"]["failed"]) == (2, 1)
    assert tally.summary([])["statuses"] == {"200": 1, "500": 1}


def test_quantiles_are_right_within_a_bin() -> None:
    latencies = Latencies()
    assert latencies.quantile_ms(0.5) is None
    for ms in range(1, 101):
        latencies.add(ms / 1000)
    assert latencies.quantile_ms(0.5) == pytest.approx(50, rel=0.02)
    assert latencies.quantile_ms(0.95) == pytest.approx(95, rel=0.02)
