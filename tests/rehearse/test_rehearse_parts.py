"""Parts on small services: answers outside of their schema, what can't be looked at, and the folder that is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from tests.load.serving import serving as asked_at
from tests.mirror.serving import PLAN, TRIP, serving

from crossfade.adapters.system import SystemClock
from crossfade.app.cli import main
from crossfade.app.planfile import load_plan, rehearsal_digest
from crossfade.app.rehearse.breakers import BreakerRig, breaker_scenarios
from crossfade.app.rehearse.parts import Extent, Progress, Stage, rig_of, run_part
from crossfade.core.plan import RehearsedBreaker
from crossfade.core.rehearsal.report import PartName
from crossfade.core.verdict import Verdict
from crossfade.errors import PlanError

P, F, U = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
TEXT = {"type": "string"}
FEW = Extent(calls=3, mirror_s=1.0, load="1s", peak=None, users_max=5, many_within_s=0.1)
LOAD = """\
load:
  scenarios: [{name: search, get: "/trips?from={from}"}]
  values: {from: [JFK, EWR]}
contract: {v1: v1.json, v2: v2.json}
"""


def promised(path: str, version: str = "3.1.0") -> dict[str, Any]:
    """Return a document whose operation wants `from` and answers as TRIP is."""
    price = {"type": "integer"} | ({"nullable": True} if version == "3.0.0" else {})
    hotel = {"type": "object", "required": ["night_usd"], "properties": {"night_usd": price}}
    trip = {"type": "object", "properties": {"hotels": {"type": "array", "items": {"$ref": "#/components/schemas/H"}}}}
    answer = {"description": "ok", "content": {"application/json": {"schema": trip}}}
    wrong = {"description": "wrong", "content": {"application/problem+json": {}}}
    parameter = {"name": "from", "in": "query", "required": True, "schema": TEXT}
    get = {"parameters": [parameter], "responses": {"200": answer, "4XX": wrong}}
    return {
        "openapi": version,
        "info": {"title": "t", "version": "1"},
        "paths": {path: {"get": get, "post": {"responses": {"200": answer}}}},
        "components": {"schemas": {"H": hotel}},
    }


def plan_in(folder: Path, v1: int = 1, v2: int = 2, version: str = "3.1.0") -> Path:
    for name in ("v1", "v2"):
        (folder / f"{name}.json").write_text(json.dumps(promised(f"/{name}/trips", version)))
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(v1=v1, v2=v2) + LOAD)
    return path


def hotel(**fields: Any) -> dict[str, Any]:
    return {**TRIP, "hotels": [fields]}


def reply_of(body: Any = b"", status: int = 200, kind: str = "application/json") -> web.Response:
    return web.Response(body=body, status=status, content_type=kind)


SPOILED: dict[str, tuple[Callable[[], Any], str]] = {
    "price as text": (lambda: hotel(night_usd="76"), "hotels[0].night_usd: '76' is not of type 'integer'"),
    "renamed": (lambda: hotel(price_usd=76), "hotels[0]: 'night_usd' is a required property"),
    "server error": (lambda: reply_of(status=503), "status 503, a server error"),
    "other status": (lambda: reply_of(status=201), "status 201, which the document doesn't have"),
    "other type": (lambda: reply_of(b"<p>", kind="text/html"), "as text/html, which the document doesn't have"),
    "no json": (lambda: reply_of(b"{"), "and it is no JSON"),
}


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("version", ["3.0.0", "3.1.0"])
async def test_an_answer_that_is_not_as_promised_fails_with_a_curl_line(
    tmp_path: Path, name: str, version: str
) -> None:
    reply, why = SPOILED[name]
    async with serving() as v1, serving(lambda n: reply() if n >= 2 else TRIP) as v2:
        path = plan_in(tmp_path, v1.port, v2.port, version)
        progress = Progress()
        await run_part(PartName.CALLS, Stage(load_plan(path), path, SystemClock(), extent=FEW), progress)
    good, bad = progress.criteria
    assert (good.name, good.outcome) == ("v1 GET /v1/trips", P)
    assert (bad.name, bad.outcome, bad.figure) == ("v2 GET /v2/trips", F, "call 3 is not so")
    assert why in bad.why
    assert bad.reproduce == f"curl -i 'http://127.0.0.1:{v2.port}/v2/trips?from=JFK'"
    assert progress.notes == [f"{v}: POST /{v}/trips was not called: it may change something" for v in ("v1", "v2")]


async def test_null_where_openapi_3_0_says_nullable_is_as_promised(tmp_path: Path) -> None:
    async with serving(lambda _: hotel(night_usd=None)) as v1, serving(lambda _: hotel(night_usd=None)) as v2:
        outcomes = []
        for version in ("3.0.0", "3.1.0"):
            path, progress = plan_in(tmp_path, v1.port, v2.port, version), Progress()
            await run_part(PartName.CALLS, Stage(load_plan(path), path, SystemClock(), extent=FEW), progress)
            outcomes.append([one.outcome for one in progress.criteria])
    assert outcomes == [[P, P], [F, F]]


async def test_wrong_questions_are_asked_too_and_nothing_but_refusals_shows_nothing(tmp_path: Path) -> None:
    refused = b'{"status": 400}'
    async with serving() as v1, serving(lambda _: reply_of(refused, 400, "application/problem+json")) as v2:
        path, progress = plan_in(tmp_path, v1.port, v2.port), Progress()
        await run_part(PartName.CALLS, Stage(load_plan(path), path, SystemClock(), extent=FEW), progress)
        queries = [dict(request.query) for request in v1.asked]
    assert queries[:3] == [{"from": "JFK"}, {"from": "EWR"}, {"from": "JFK"}]
    assert [len(query.get("from", "-")) for query in queries[3:]] == [1, 0, 300]
    assert [one.outcome for one in progress.criteria] == [P, U]
    assert "load.values" in progress.criteria[1].why


UNFIT = {
    "a pattern": {"properties": {"hotels": {"items": {"properties": {"name": {"pattern": "("}}}}}},
    "a type": {"type": "tripp"},
    "a reference": {"$ref": "#/components/schemas/Nowhere"},
    "a circle": {"$ref": "#/components/schemas/H"},
    "a keyword": {"required": 7},
}


@pytest.mark.parametrize("what", UNFIT)
@pytest.mark.parametrize("version", ["3.0.0", "3.1.0"])
async def test_a_schema_that_is_none_is_one_line_with_its_place(tmp_path: Path, what: str, version: str) -> None:
    async with serving() as v1, serving() as v2:
        path, progress = plan_in(tmp_path, v1.port, v2.port, version), Progress()
        document = promised("/v2/trips", version)
        answer = document["paths"]["/v2/trips"]["get"]["responses"]["200"]
        answer["content"]["application/json"]["schema"] = UNFIT[what]
        if what == "a circle":
            document["components"]["schemas"]["H"] = UNFIT[what]
        (tmp_path / "v2.json").write_text(json.dumps(document))
        await run_part(PartName.CALLS, Stage(load_plan(path), path, SystemClock(), extent=FEW), progress)
    good, bad = progress.criteria
    assert (good.outcome, bad.outcome) == (P, U), bad
    assert "v2.json:1: no answer can be held against this schema: " in bad.why
    assert "\n" not in bad.why


@pytest.mark.parametrize("part", ["calls", "mirror", "load"])
async def test_a_deployment_that_is_away_is_one_clear_line(tmp_path: Path, part: PartName) -> None:
    path, progress = plan_in(tmp_path), Progress()
    await run_part(PartName(part), Stage(load_plan(path), path, SystemClock(), extent=FEW), progress)
    for one in progress.criteria:
        assert one.outcome is U
        assert "\n" not in one.why
        assert "connect" in one.why


def test_a_renamed_field_of_the_document_fails_and_missing_documents_are_inconclusive(tmp_path: Path) -> None:
    plan, out = plan_in(tmp_path), tmp_path / "out"
    words = ["rehearse", str(plan), "--only", "contract", "--only", "calls", "--out", str(out), "-o", "json"]
    v2 = promised("/v2/trips")
    v2["components"]["schemas"]["H"] = {"type": "object", "properties": {"price_usd": {"type": "integer"}}}
    (tmp_path / "v2.json").write_text(json.dumps(v2))
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "response-property-removed" in done.stdout
    assert "night_usd" in json.loads(done.stdout)["sentence"]
    (tmp_path / "v2.json").unlink()
    done = CliRunner().invoke(main, words)
    report = json.loads(done.stdout)
    assert (done.exit_code, report["outcome"], report["versions"]) == (5, "INCONCLUSIVE", {})
    whys = [one["why"] for part in report["parts"] for one in part["criteria"]]
    assert len(whys) == 2
    assert all("v2.json can't be read" in why for why in whys)
    plan.write_text(plan.read_text().replace("contract:", "# contract:"))
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, "the plan has no `contract`" in done.stdout) == (5, True)


async def test_users_of_the_load_go_through_the_proxy_by_the_plans_secret_and_so_does_who_repeats_it(
    tmp_path: Path,
) -> None:
    async with asked_at() as proxy:
        path = plan_in(tmp_path)
        text = path.read_text().replace("api:\n", f"api:\n  listen: 127.0.0.1:{proxy.port}\n")
        path.write_text(text + "override secret: {file: secret}\n")
        (tmp_path / "secret").write_text("0123456789abcdef")
        progress = Progress()
        extent = replace(FEW, users_max=4)
        await run_part(PartName.LOAD, Stage(load_plan(path), path, SystemClock(), extent=extent), progress)
    chosen = {found[1] for head in proxy.heads if (found := re.search(r"X-Crossfade-Version: (\w+)", head))}
    assert chosen == {"v1", "v2"}
    assert all("X-Crossfade-Secret: 0123456789abcdef" in head for head in proxy.heads)
    assert f"steady: 4 users on the proxy at 127.0.0.1:{proxy.port} for 1s" in progress.notes
    again = {one.reproduce for one in progress.criteria}
    assert again == {f"crossfade load {path} --profile steady --for 1s --users 4 --seed 1 --v2 50%"}


@pytest.mark.parametrize(("late", "first"), [(1, "opens"), (1000, "breaker")])
async def test_a_first_answer_without_weather_is_no_reason_not_to_rehearse(late: int, first: str) -> None:
    def reply(number: int) -> web.Response:
        weather = "fallback" if number < 2 + late else "ok"  # the first two tell the dependency to be normal
        facts = f"flights=1, hotels=1, weather={weather}, weather-breaker=closed"
        return web.json_response(TRIP, headers={"Crossfade-Facts": facts})

    async with serving(reply) as both:
        url = f"http://127.0.0.1:{both.port}"
        rig = BreakerRig(v2=f"{url}/v2/trips?from=JFK", control=f"{url}/control", users=5)
        async with aclosing(breaker_scenarios(rig, SystemClock())) as scenarios:  # type: ignore[type-var]
            assert (await anext(scenarios)).name == first


def test_a_plan_without_a_breaker_leaves_that_part_inconclusive(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["rehearse", str(plan_in(tmp_path)), "--only", "breakers", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 5
    assert "the plan has no `rehearsal.breaker`" in done.output
    assert "not run: contract, calls, mirror, load" in done.output


def test_only_the_same_rehearsal_can_be_resumed(tmp_path: Path) -> None:
    plan, out = plan_in(tmp_path), tmp_path / "out"
    words = ["rehearse", str(plan), "--only", "contract", "--out", str(out), "--resume"]
    assert "nothing was begun in" in refused(words)
    assert CliRunner().invoke(main, words[:-1]).exit_code == 5
    assert CliRunner().invoke(main, words).exit_code == 5
    assert "holds a whole rehearsal" in refused([*words, "--quick"])
    document = promised("/v2/trips") | {"info": {"title": "t", "version": "2"}}
    (tmp_path / "v2.json").write_text(json.dumps(document))
    assert "v2 promises something else" in refused(words)
    plan_in(tmp_path)
    plan.write_text(plan.read_text() + "mirror: {limit: 1%}\n")
    assert "of another plan, or of one that was changed since" in refused(words)
    plan_in(tmp_path)
    (out / "contract.json").write_text("{}")
    assert "is no part of a rehearsal" in refused(words)
    (out / "begun.json").write_text("[1")
    assert "can't be read" in refused(words)
    (tmp_path / "file").write_text("")
    assert "name another with --out" in refused([*words[:-2], str(tmp_path / "file")])


def refused(words: list[str]) -> str:
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_what_is_found_is_shown_as_text_in_the_page(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    v2 = promised("/v2/trips")
    v2["paths"]["/v2/trips"]["get"]["responses"].pop("200")
    v1 = promised("/v1/trips")
    v1["paths"]["/v1/<b>"] = v1["paths"]["/v1/trips"]
    (tmp_path / "v1.json").write_text(json.dumps(v1))
    (tmp_path / "v2.json").write_text(json.dumps(v2))
    done = CliRunner().invoke(
        main, ["rehearse", str(plan), "--only", "contract", "--out", str(tmp_path / "out"), "-o", "html"]
    )
    assert (done.exit_code, "<b>" in done.stdout, "&lt;b&gt;" in done.stdout) == (1, False, True)
    assert (tmp_path / "out" / "report.html").read_text() == done.stdout.removesuffix("\n")


def test_the_digest_is_of_what_is_rehearsed(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    first = rehearsal_digest(load_plan(plan))
    text = plan.read_text()
    for other, same in (
        (text.replace("split: 50%", "split: 40%"), True),
        (text.replace("/v2/trips,", "/v2/trips/search,"), False),
        (text.replace("[JFK, EWR]", "[JFK]"), False),
        (text + 'rehearsal: {breaker: {control: "http://127.0.0.1:9/c"}}\n', False),
    ):
        assert other != text
        plan.write_text(other)
        assert (rehearsal_digest(load_plan(plan)) == first) is same


MISTAKES = {
    "{breaker: {cooldown: 30s}}": "rehearsal.breaker.control: is missing",
    "{breaker: {control: nowhere}}": "'nowhere' is no address of a control",
    '{breaker: {control: "http://me@127.0.0.1/"}}': "is no address of a control",
    '{breaker: {control: "http://127.0.0.1:9/", cooldown: 0s}}': "cooldown",
    '{breaker: {control: "http://127.0.0.1:9/", needs: [Flights!]}}': "'Flights!' is no name for a fact",
    "{breakers: {}}": "did you mean 'breaker'?",
}


@pytest.mark.parametrize("section", MISTAKES)
def test_a_mistake_in_the_section_is_told_with_its_place(tmp_path: Path, section: str) -> None:
    plan = plan_in(tmp_path)
    plan.write_text(f"{plan.read_text()}rehearsal: {section}\n")
    with pytest.raises(PlanError, match=re.escape(MISTAKES[section])) as caught:
        load_plan(plan)
    assert {problem.line for problem in caught.value.problems} == {len(plan.read_text().splitlines())}


def test_what_the_section_leaves_out_comes_from_the_metrics(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    section = 'rehearsal: {breaker: {control: "http://127.0.0.1:9/"}}\n'
    plan.write_text(plan.read_text() + section)
    assert load_plan(plan).rehearsal.breaker == RehearsedBreaker(control="http://127.0.0.1:9/")
    metrics = (
        "metrics: {rooms: {fact: rooms, guard: < 99% -> rollback}, extras: {fact: extras, guard: monitor}, "
        "open: {breaker: tides, guard: monitor}, latency_p95: {target: <= 200ms, guard: monitor}}"
    )
    plan.write_text(re.sub("^metrics:.*$", metrics, plan.read_text(), flags=re.MULTILINE))
    loaded = load_plan(plan)
    breaker = loaded.rehearsal.breaker
    assert breaker is not None
    assert (breaker.dependency, breaker.needs, breaker.cooldown_s) == ("tides", ("rooms",), 30.0)
    rig = rig_of(Stage(loaded, plan, SystemClock(), extent=FEW))
    assert rig.rules.latency_ms == 200
    assert rig.v2.startswith("http://127.0.0.1:2/v2/trips?from=")
    assert [url.partition("?")[0] for url in rig.others] == ["http://127.0.0.1:1/v1/trips"]


async def test_recorded_requests_are_mirrored_first_and_then_what_the_load_asks(tmp_path: Path) -> None:
    """A request with a fault of its own, which the plan's load never asks."""
    recorded = tmp_path / "access.log"
    recorded.write_text('"GET /v1/trips?from=XXX HTTP/1.1" 200\n"POST /v1/trips HTTP/1.1" 200\n' * 5)
    async with serving() as v1, serving() as v2:
        plan = plan_in(tmp_path, v1.port, v2.port)
        progress = Progress()
        stage = Stage(load_plan(plan), plan, SystemClock(), extent=FEW, requests=recorded)
        await run_part(PartName.MIRROR, stage, progress)
    asked = [request.query_string for request in v2.asked]
    assert asked.count("from=XXX") == 5
    assert set(asked) - {"from=XXX"} <= {"from=JFK", "from=EWR"}
    assert f"the requests of {recorded} were asked first" in progress.notes
    assert "5 recorded ones were not: POST: may change something" in progress.notes


def test_a_file_without_requests_is_told_before_anything_is_tried(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    for name, said in (("nowhere.log", "can't be read"), ("empty.log", "holds no question to ask again")):
        (tmp_path / "empty.log").write_text("")
        done = CliRunner().invoke(main, ["rehearse", str(plan), "--requests", str(tmp_path / name)])
        assert (done.exit_code, said in done.output + str(done.exception)) == (2, True), done.output
