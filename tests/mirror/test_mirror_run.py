"""The mirror on real sockets: what is sent, what is found, and what happens when things go wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.mirror.serving import TRIP, Reply, Version, serving, write_plan

from crossfade.adapters.mirror import BODY_BYTES_MAX, Asker
from crossfade.adapters.system import SystemClock
from crossfade.app.mirror.questions import Question, Questions, drawn
from crossfade.app.mirror.report import as_data, as_text
from crossfade.app.mirror.run import GONE_AFTER, MirrorReport, Places, Running, mirror
from crossfade.app.planfile import load_plan
from crossfade.core.mirror.rules import Mirror
from crossfade.core.verdict import Verdict
from crossfade.errors import UnreachableError, UsageError

LENIENT = "mirror: {limit: 5%}\n"


def asking(how_many: int, rest: str = "?n={}") -> list[Question]:
    return [Question(method="GET", shown=f"/trips{rest.format(n)}", rest=rest.format(n)) for n in range(how_many)]


async def mirrored(
    folder: Path, v1: Reply, v2: Reply, how_many: int = 150, rules: str = LENIENT, **more: Any
) -> tuple[MirrorReport, Version, Version]:
    async with serving(v1) as one, serving(v2) as two:
        plan = load_plan(write_plan(folder, one.port, two.port, rules))
        report = await mirror(plan, iter(asking(how_many)), SystemClock(), **{"rate": 100_000, **more})
    return report, one, two


def same(_: int) -> Any:
    return TRIP


async def test_each_question_is_asked_twice_of_v1_and_once_of_v2(tmp_path: Path) -> None:
    report, v1, v2 = await mirrored(tmp_path, same, same)
    assert (report.verdict, report.asked, report.compared) == (Verdict.PASS, 150, 150)
    assert (len(v1.asked), len(v2.asked)) == (300, 150)
    assert {request.path for request in v1.asked} == {"/v1/trips"}
    assert sorted(r.query_string for r in v2.asked) == sorted(f"n={n}" for n in range(150))
    assert report.sentence == "V2 answers 150 questions as V1 does: each of 9 fields in all but 5 %"


DOWN = object()
PLANTED: list[tuple[Any, str, str]] = [
    ({**TRIP, "hotels": [{"name": "A", "price_usd": 76}]}, "hotels[].night_usd", "renamed to hotels[].price_usd"),
    ({**TRIP, "hotels": [{"name": "A", "night_usd": "76"}]}, "hotels[].night_usd", "type changed in"),
    ({**TRIP, "hotels": []}, "hotels[]", "missing item in"),
    (DOWN, "status code", "different in"),
]


@pytest.mark.parametrize(("v2", "path", "reason"), PLANTED, ids=["renamed", "price as text", "hotels dropped", "503"])
async def test_a_planted_fault_fails_for_its_reason(tmp_path: Path, v2: Any, path: str, reason: str) -> None:
    report, _, _ = await mirrored(tmp_path, same, lambda _: web.Response(status=503) if v2 is DOWN else v2, 60)
    assert report.verdict is Verdict.FAIL
    assert report.sentence.startswith(f"{path}: ")
    assert reason in report.sentence
    text = as_text(as_data(report, "trips"))
    assert text.count("\nFAIL: ") == 2  # the field, and the whole
    assert "/trips?n=" in text
    question = report.lines[0].examples[0].question
    urls = [places[0] + question.removeprefix("/trips") for places in (report.places.v1, report.places.v2)]
    assert f"again: curl -s '{urls[0]}'; curl -s '{urls[1]}'" in text


async def test_two_differences_in_a_hundred_fail(tmp_path: Path) -> None:
    def v2(number: int) -> Any:
        return TRIP if number % 50 else {**TRIP, "hotels": [{"name": "A", "night_usd": 77}]}

    report, _, _ = await mirrored(tmp_path, same, v2, 1500, "mirror: {limit: 0.1%}\n")
    assert (report.verdict, report.lines[0].path) == (Verdict.FAIL, "hotels[].night_usd")


async def test_the_reference_is_asked_with_the_questions_own_parameters(tmp_path: Path) -> None:
    def weather(mean: float) -> Reply:
        return lambda _: {**TRIP, "weather": {"c": mean}}

    rules = (
        'mirror: {{limit: 5%, reference: {{get: "http://127.0.0.1:{}/o?k={{n}}&l={{none}}", '
        "fields: {{weather.c: c within 0.1}}}}}}\n"
    )
    for said, verdict in ((12.0, Verdict.PASS), (53.6, Verdict.FAIL)):
        async with serving(lambda _: {"c": 12.04}) as true:
            report, _, _ = await mirrored(tmp_path, same, weather(said), rules=rules.format(true.port))
        assert report.verdict is verdict
        assert sorted(r.query_string for r in true.asked) == sorted(f"k={n}&l=" for n in range(150))
    assert "Fahrenheit for Celsius" in report.sentence or "within 0.1 of the reference" in report.sentence


# what can go wrong


async def test_who_does_not_listen_is_named(tmp_path: Path, unused_tcp_port: int) -> None:
    async with serving(same) as v1:
        plan = load_plan(write_plan(tmp_path, v1.port, unused_tcp_port))
        with pytest.raises(UnreachableError, match=rf"V2 at 127.0.0.1:{unused_tcp_port}: no connection"):
            await mirror(plan, iter(asking(1)), SystemClock())
    assert v1.asked == []


async def test_a_v2_that_dies_in_the_middle_makes_a_partial_report_that_fails(tmp_path: Path) -> None:
    report, _, _ = await mirrored(tmp_path, same, lambda n: TRIP if n < 40 else None, 5000, "mirror: {limit: 0.1%}\n")
    assert report.verdict is Verdict.FAIL
    assert report.partial.startswith("V2 stopped answering (no complete answer")
    assert 40 + GONE_AFTER <= report.asked < 1000
    assert "PARTIAL: V2 stopped answering" in as_text(as_data(report, ""))


async def test_a_v1_that_dies_leaves_nothing_to_compare(tmp_path: Path) -> None:
    report, _, _ = await mirrored(tmp_path, lambda _: None, same, 5000)
    assert (report.verdict, report.compared) == (Verdict.BLIND, 0)
    assert report.sentence.startswith("nothing was compared")
    assert sum(report.not_compared.values()) >= GONE_AFTER


def packed(body: bytes, coding: str) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": coding})


BOMB = gzip.compress(bytes(50 * 1024 * 1024))
GOOD = json.dumps(TRIP).encode()
BODIES: dict[str, tuple[Callable[[], web.Response], Verdict, str]] = {
    "gzip": (lambda: packed(gzip.compress(GOOD), "gzip"), Verdict.PASS, ""),
    "deflate": (lambda: packed(zlib.compress(GOOD), "deflate"), Verdict.PASS, ""),
    "no gzip": (lambda: packed(GOOD, "gzip"), Verdict.FAIL, "says that it is gzip and is not"),
    "half": (lambda: packed(gzip.compress(GOOD)[:-12], "gzip"), Verdict.FAIL, "its gzip ends too early"),
    "brotli": (lambda: packed(GOOD, "br"), Verdict.FAIL, "packed as br"),
    "bomb": (lambda: packed(BOMB, "gzip"), Verdict.FAIL, "a body over 4,194,304 bytes"),
    "too large": (lambda: web.Response(body=bytes(BODY_BYTES_MAX + 1)), Verdict.FAIL, "a body over 4,194,304 bytes"),
    "no JSON": (lambda: packed(b'{"a": NaN}', "identity"), Verdict.FAIL, "10 bytes that are no JSON"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_that_is_no_plain_json_is_read_or_told(tmp_path: Path, case: str) -> None:
    make, verdict, said = BODIES[case]
    many = 120 if verdict is Verdict.PASS else 24
    report, _, _ = await mirrored(tmp_path, same, lambda _: make(), many, "mirror: {limit: 8%}\n")
    assert report.verdict is verdict
    if said:
        assert report.lines[0].path == "body"
        assert said in report.lines[0].examples[0].v2


async def test_an_answer_of_fifty_megabytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    sent = count()

    async def endless() -> web.StreamResponse:
        return web.Response(body=pieces())

    async def pieces() -> Any:
        for _ in range(50):
            next(sent)
            yield bytes(1024 * 1024)

    async with serving(lambda _: endless()) as v2, Asker() as asker:
        answer = await asker.ask("GET", f"http://127.0.0.1:{v2.port}/x?y", {})
    assert answer.trouble == "a body over 4,194,304 bytes"
    assert next(sent) < 50


async def test_who_interrupts_gets_what_was_seen_and_nothing_goes_on(tmp_path: Path) -> None:
    held: list[Running] = []

    async def slow(number: int) -> Any:
        if number >= 60:
            held[0].stop()
            await asyncio.sleep(60)
        return TRIP

    report, _, _ = await mirrored(tmp_path, same, slow, 500, started=held.append)
    assert (report.partial, report.verdict) == ("stopped by a person", Verdict.INCONCLUSIVE)
    assert report.asked < 500
    assert not [task for task in asyncio.all_tasks() if "_ask" in repr(task.get_coro())]


async def test_it_ends_as_soon_as_it_is_certain(tmp_path: Path) -> None:
    report, _, _ = await mirrored(tmp_path, same, same, 100_000)
    assert (report.verdict, report.partial) == (Verdict.PASS, "")
    assert report.asked <= 400


async def test_the_rate_is_kept(tmp_path: Path) -> None:
    async with serving() as v1, serving() as v2:
        plan = load_plan(write_plan(tmp_path, v1.port, v2.port, LENIENT))
        report = await mirror(plan, iter(asking(10_000)), SystemClock(), rate=40, for_s=0.5)
    assert report.asked <= 20


async def test_the_rate_is_kept_after_a_stall_too(tmp_path: Path) -> None:
    """After a second of silence at 100/s the other 78 questions are not asked at once."""
    came: list[float] = []
    clock = SystemClock()

    async def stalls(number: int) -> Any:
        came.append(clock.monotonic())
        if number < 32:
            await asyncio.sleep(1.0)
        return TRIP

    report, _, _ = await mirrored(tmp_path, same, stalls, 110, rate=100)
    assert report.compared == 110
    after = sorted(came)[32:]
    assert after[-1] - after[0] > 0.3


# what is asked


def questions(folder: Path, text: str | bytes, rules: str = "") -> tuple[list[Question], dict[str, int]]:
    plan = load_plan(write_plan(folder, 1, 2, rules))
    reading = Questions(plan, plan.mirror or Mirror())
    file = folder / "requests"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(reading.file(file)), dict(reading.left_out)


def test_requests_are_read_in_whatever_form_they_were_recorded(tmp_path: Path) -> None:
    found, left_out = questions(
        tmp_path,
        """\
# a comment
/trips?from=JFK&q=a%20b
http://api.example.org/v1/trips/today?x=1
HEAD /trips
GET /trips?y=1 HTTP/1.1
127.0.0.1 - - [10/Oct/2026:13:55:36 +0000] "GET /trips?z=1 HTTP/1.1" 200 2326 "-" "curl/8"
{"url": "/trips?j=1", "headers": {"X-User-Id": "u-1", "Accept": "text/csv", "Cookie": "uid=1", "X-Region": "eu"}}
POST /trips
{"method": "DELETE", "url": "/trips/1"}
/other
/tripsy
/trips/../admin
/trips/%2E%2e/admin
nothing at all here
{"half":
""",
    )
    assert [q.method for q in found] == ["GET", "GET", "HEAD", "GET", "GET", "GET"]
    assert [q.rest for q in found] == ["?from=JFK&q=a%20b", "/today?x=1", "", "?y=1", "?z=1", "?j=1"]
    assert found[-1].headers == {"X-User-Id": "u-1", "Accept": "text/csv", "X-Region": "eu"}
    assert left_out == {
        "POST: may change something": 1, "DELETE: may change something": 1, "not at the plan's entry": 2,
        "no path and query": 2, "no request in the line": 2,
    }  # fmt: skip


def test_a_question_is_shown_at_the_entry_wherever_it_was_recorded(tmp_path: Path) -> None:
    found, _ = questions(tmp_path, "/v1/trips/today?x=1\n/v2/trips\n/trips?token=abc\n")
    assert [q.shown for q in found] == ["/trips/today?x=1", "/trips", "/trips?token=abc"]


async def test_nothing_masked_is_in_the_line_that_shows_a_difference_again(tmp_path: Path) -> None:
    async with serving() as v1, serving(lambda _: {}) as v2:
        plan = load_plan(write_plan(tmp_path, v1.port, v2.port, LENIENT))
        secret = [Question(method="GET", shown=f"/trips{q}", rest=q) for q in ["?token=abc"] * 50]
        data = as_data(await mirror(plan, iter(secret), SystemClock(), rate=100_000))
    assert data["verdict"] == "FAIL"
    assert "abc" not in json.dumps(data)
    assert data["lines"][0]["reproduce"] is None


def test_a_har_file_is_read_and_json_that_is_none_refused(tmp_path: Path) -> None:
    request = {"method": "GET", "url": "https://x/trips?a=1", "headers": [{"name": "accept", "value": "a/b"}]}
    har = {"log": {"entries": [{"request": request}, {"request": {"method": "PUT", "url": "/trips"}}, {}, 3]}}
    for text in (json.dumps(har), json.dumps(har, indent=2)):
        found, left_out = questions(tmp_path, text)
        assert [(q.rest, dict(q.headers)) for q in found] == [("?a=1", {"accept": "a/b"})]
        assert left_out == {"PUT: may change something": 1, "no request in the entry": 2}
    for text in ('{"log": 1}', '{"log": {"entries": 3}}', "{\n"):
        with pytest.raises(UsageError, match="requests"):
            questions(tmp_path, text)
    assert questions(tmp_path, b"\xff\xfe\x00garbage\n" * 3) == ([], {"no request in the line": 3})


async def test_nothing_but_get_and_head_is_ever_sent() -> None:
    async with serving() as one, Asker() as asker:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"):
            with pytest.raises(UsageError, match="may change something"):
                await asker.ask(method, f"http://127.0.0.1:{one.port}/x", {})
    assert one.asked == []


async def test_headers_that_matter_are_sent_as_recorded_and_declared(tmp_path: Path) -> None:
    rules = "mirror: {limit: 5%, send: [X-Tenant], with: {Accept: text/csv}}\n"
    line = '{"url": "/trips?a=1", "headers": {"X-User-Id": "u1", "x-tenant": "t", "X-Other": "o", "Host": "evil"}}'
    async with serving() as v1, serving() as v2:
        found, _ = questions(tmp_path, line, rules)
        plan = load_plan(write_plan(tmp_path, v1.port, v2.port, rules))
        await mirror(plan, iter(found), SystemClock())
    for request in (*v1.asked, *v2.asked):
        sent = {name.lower(): value for name, value in request.headers.items()}
        assert (sent["x-user-id"], sent["x-tenant"], sent["accept"]) == ("u1", "t", "text/csv")
        assert "x-other" not in sent
        assert sent["host"].startswith("127.0.0.1")


def test_without_a_file_the_plans_load_is_drawn(tmp_path: Path) -> None:
    load = 'load: {scenarios: [{name: a, get: "/trips?from={from}&d={date}"}], values: {from: [JFK, EWR]}}\n'
    plan = load_plan(write_plan(tmp_path, 1, 2, load))
    first, again = (list(islice(drawn(plan, 7, 0.0), 50)) for _ in range(2))
    assert first == again
    assert {q.rest.split("&")[0] for q in first} == {"?from=JFK", "?from=EWR"}
    assert first[0].headers == {"X-User-Id": "mirror-7-0"}
    plain = load_plan(write_plan(tmp_path, 1, 2))
    assert [q.rest for q in islice(drawn(plain, 1, 0.0), 2)] == ["", ""]


def test_places_are_the_plans_services(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path, 11, 12))
    assert Places.of(plan) == Places(v1=("http://127.0.0.1:11/v1/trips",), v2=("http://127.0.0.1:12/v2/trips",))
