"""The plan's `mirror` section and the command: what they take, and how mistakes are told."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from tests.mirror.serving import write_plan

from crossfade.app.cli import main
from crossfade.app.planfile import json_schema, load_plan, summarise
from crossfade.core.mirror.rules import Bound, Expected, Mirror, Reference
from crossfade.errors import PlanError

SECTION = """\
mirror:
  must_match: [flights, "hotels[].night_usd", header ETag]
  ignore: [meta.at, status code]
  unordered: {flights: flight, tags: any}
  headers: [Content-Type, ETag]
  send: [Accept, X-Tenant]
  with: {Accept: application/json}
  mask: [passport]
  bounds: {weather.temperature_c: [-60, 60.5]}
  reference:
    get: "http://127.0.0.1:8103/v1/observed?airport={to}&date={date}"
    fields: {weather.temperature_c.mean: temperature_c.mean within 0.5, weather.wind: wind}
  limit: 0.2%
  rate: 50/s
"""


def test_the_section_is_read(tmp_path: Path) -> None:
    plan = load_plan(write_plan(tmp_path, 1, 2, SECTION))
    assert plan.mirror == Mirror(
        must_match=("flights", "hotels[].night_usd", "header etag"),
        ignore=("meta.at", "status code"),
        unordered={"flights": "flight", "tags": "any"},
        headers=("content-type", "etag"),
        send=("accept", "x-tenant"),
        with_headers={"Accept": "application/json"},
        mask=("passport",),
        bounds=(Bound(path="weather.temperature_c", low=-60, high=60.5),),
        reference=Reference(
            url="http://127.0.0.1:8103/v1/observed?airport={to}&date={date}",
            fields=(
                Expected(path="weather.temperature_c.mean", reference="temperature_c.mean", within=0.5),
                Expected(path="weather.wind", reference="wind"),
            ),
        ),
        limit=0.002,
        rate=50,
    )
    assert "mirror at 50/s: flights, hotels[].night_usd" in " ".join(summarise(plan, now=0.0).split())
    jsonschema.validate(yaml.safe_load((tmp_path / "plan.yaml").read_text()), json_schema())


def test_it_decides_nothing_in_a_rollout(tmp_path: Path) -> None:
    without = load_plan(write_plan(tmp_path, 1, 2)).digest
    assert load_plan(write_plan(tmp_path, 1, 2, SECTION)).digest == without


MISTAKES = [
    ("{mst_match: [a]}", "unknown key; did you mean 'must_match'?"),
    ("{must_match: flights}", "write a list"),
    ("{must_match: [flights.0]}", "no path of a field"),
    ('{ignore: ["header a b"]}', "no path of a field"),
    ("{unordered: {a b: any}}", "no path of a field"),
    ("{headers: [a b]}", "no name of a header"),
    ("{with: {a b: c}}", "no name of a header"),
    ('{with: {a: "x\\ny"}}', "no value of a header"),
    ("{mask: ['-']}", "no name that values could be kept from"),
    ("{bounds: {t: [1]}}", "write the least and the greatest"),
    ("{bounds: {t: [1, 1]}}", "write the least first"),
    ("{bounds: {t: [low, 1]}}", "no number"),
    ("{reference: {get: 'ftp://a', fields: {a: b}}}", "no URL to ask"),
    ("{reference: {get: 'http://u:p@a/', fields: {a: b}}}", "no URL to ask"),
    ("{reference: {get: 'http://a/{x'}}", "fields: is missing"),
    ("{reference: {get: 'http://a', fields: {a: b within much}}}", "no field of the reference"),
    ("{limit: 0%}", "no limit of differences"),
    ("{limit: 1}", "no limit of differences"),
    ("{rate: 5000/s}", "1,000/s at most"),
    ("{rate: 20}", "no rate"),
    ("[a]", "write a mapping"),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(tmp_path: Path, text: str, told: str) -> None:
    path = write_plan(tmp_path, 1, 2, f"mirror: {text}\n")
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert told in str(caught.value)
    assert {problem.line for problem in caught.value.problems} == {11}
    assert all(problem.field.startswith("mirror") for problem in caught.value.problems)


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["mirror", *map(str, words)])
    return done.exit_code, done.output


def test_what_the_command_is_given_wrongly(tmp_path: Path) -> None:
    plan, empty, posts = write_plan(tmp_path, 1, 2), tmp_path / "empty", tmp_path / "posts"
    empty.write_text("\n")
    posts.write_text("POST /trips\nPOST /trips\n")
    for words, told in (
        (("--rate", "20"), "--rate: '20' is no rate"),
        (("--for", "soon"), "--for: 'soon' is no duration"),
        (("--v2", "127.0.0.1:1"), "--v2 '127.0.0.1:1' is no place to ask"),
        (("--requests", tmp_path / "none"), "none can't be read: No such file"),
        (("--requests", empty), "holds no question to ask again; it is empty"),
        (("--requests", posts), "holds no question to ask again (2: POST: may change something)"),
    ):
        code, output = run(plan, *words)
        assert (code, told in output, output.count("\n")) == (2, True, 1), output
    code, output = run(plan, "--v1", "http://127.0.0.1:1")
    assert code == 4
    assert output.startswith("crossfade: V1 at 127.0.0.1:1: no connection")


def test_schema_refuses_what_the_plan_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"must_match": []}, json_schema()["properties"]["mirror"])
    assert json.dumps(json_schema()["properties"]["mirror"])
