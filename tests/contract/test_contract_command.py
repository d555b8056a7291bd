"""`crossfade contract` as typed: documents read, findings told with their places, exit codes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.documents import answering
from tests.load.conftest import PLAN
from tests.tripsearch.running import free_port

from crossfade.app.cli import main
from crossfade.app.contract.text import Text
from crossfade.app.planfile import load_plan
from crossfade.core.contract.document import references
from crossfade.errors import PlanError

V1 = """\
openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /v1/trips:
    get:
      responses:
        200:
          description: ok
          content:
            application/json:
              schema:
                type: object
                required: [price, stars]
                properties:
                  price: {type: number}
                  stars: {$ref: "parts.yaml#/stars"}
"""
PARTS = "stars:\n  type: integer\n  maximum: 5\n"
V2 = V1.replace("/v1/", "/v2/").replace("price: {type: number}", "price: {type: string}").replace("parts", "parts2")
PARTS2 = PARTS.replace("5", "6")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("v1.yaml", V1), ("v2.yaml", V2), ("parts.yaml", PARTS), ("parts2.yaml", PARTS2)):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["contract", *(str(word) for word in words)])
    assert done.exit_code == code, done.output
    return done.output


def test_findings_have_rule_place_severity_and_what_would_be_right(folder: Path) -> None:
    assert run("v1.yaml", "v2.yaml", "--prefix", "/v1=/v2", code=1) == (
        "breaking: GET /v1/trips 200 /price: the type is string in V2 and number in V1; "
        "answer with V1's type only [response-type-widened]\n"
        "  v1 v1.yaml:15\n"
        "  v2 v2.yaml:15\n"
        "breaking: GET /v1/trips 200 /stars: the greatest value is 6 in V2 and 5 in V1; "
        "keep within V1's bound [response-bound-widened]\n"
        "  v1 parts.yaml:1\n"
        "  v2 parts2.yaml:1\n"
        "\n"
        "V2 breaks V1's clients: 2 breaking, 0 warnings\n"
    )
    data: Any = json.loads(run("v1.yaml", "v2.yaml", "--prefix", "/v1=/v2", "-o", "json", code=1))
    assert data["findings"][0]["v1"] == {
        "place": "v1.yaml:15",
        "document": "v1.yaml",
        "pointer": "/paths/~1v1~1trips/get/responses/200/content/application~1json/schema/properties/price",
    }
    assert yaml.safe_load(run("v1.yaml", "v2.yaml", "--prefix", "/v1=/v2", "-o", "yaml", code=1)) == data
    assert run("v1.yaml", "v1.yaml") == "V2 keeps V1's contract: 0 breaking, 0 warnings\n"


def test_a_plan_names_the_documents_its_paths_and_what_is_wanted(folder: Path) -> None:
    wanted = '{rule: response-type-widened, at: "GET /v1/trips 200 /price", reason: agreed in May}'
    unused = '{rule: path-removed, at: "*", reason: was so once}'
    plan = folder / "plan.yaml"
    plan.write_text(
        PLAN.format(port=1, v1=2, v2=3) + f"contract: {{v1: v1.yaml, v2: v2.yaml, except: [{wanted}, {unused}]}}\n"
    )
    said = run(plan, code=1)
    assert "wanted: GET /v1/trips 200 /price: the type is string in V2 and number in V1 " in said
    assert "agreed in May" in said
    assert "warning: no path-removed is at * (kept because: was so once); remove it from the plan" in said
    assert "1 breaking, 1 warning" in said
    (folder / "parts2.yaml").write_text(PARTS)
    assert "V2 keeps V1's contract: 0 breaking, 1 warning" in run(plan)


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        ("{v1: a}", "is missing; write `v2"),
        ("{v1: a, v2: 'ftp://x/y'}", "is no place of a document"),
        ("{v1: a, v2: b, except: [{rule: response-nullabel, at: x, reason: y}]}", "did you mean 'response-nullable'"),
        ("{v1: a, v2: b, except: [{rule: response-nullable, at: x}]}", "is missing; write `reason"),
    ],
)
def test_mistakes_in_the_section_are_told(folder: Path, contract: str, said: str) -> None:
    plan = folder / "plan.yaml"
    plan.write_text(PLAN.format(port=1, v1=2, v2=3) + f"contract: {contract}\n")
    with pytest.raises(PlanError, match=re.escape(said)):
        load_plan(plan)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "v2.yaml: is no OpenAPI document"),
        ("swagger: '2.0'", "v2.yaml: is Swagger 2; OpenAPI 3.0 and 3.1 are compared"),
        ("openapi: 4.0.0", "v2.yaml: is OpenAPI 4.0.0"),
        ("openapi: [", "v2.yaml:2: is neither JSON nor YAML"),
        ('{"openapi": "3.1.0",', "is neither JSON nor YAML"),
        ("a: &a\n  <<: {}\n", "v2.yaml:2: merge keys are not read"),
        ("a: *b", "v2.yaml:1: the alias *b stands for nothing"),
        ("a: &a [*a]", "stands for what holds it"),
        ("a: 1\n---\nb: 2\n", "v2.yaml:3: holds several documents"),
        ("[" * 300, "is nested deeper than 200 levels"),
        ('{"a":' * 300 + "1" + "}" * 300, "is nested deeper than 200 levels"),
        (V2.replace("parts2.yaml#/stars", "nowhere.yaml#/x"), "nowhere.yaml can't be read: No such file"),
        (V2.replace("parts2.yaml#/stars", "#/x/y"), "v2.yaml:16: refers to #/x/y, where nothing is"),
        (V2.replace("parts2.yaml#/stars", "ftp://x/y"), "files and http(s) URLs are read"),
        (V2.replace("{type: string}", "5"), "v2.yaml:15: is no schema"),
        (V2.replace("{type: string}", "{$ref: '#/a'}") + "a: {$ref: '#/b'}\nb: {$ref: '#/a'}\n", "more than 64 times"),
    ],
)  # fmt: skip
def test_documents_that_make_no_sense_are_one_clear_error(folder: Path, text: str, said: str) -> None:
    (folder / "v2.yaml").write_text(text)
    assert said in run("v1.yaml", "v2.yaml", "--prefix", "/v1=/v2", code=2)


def test_what_is_no_text_or_no_file_is_one_clear_error(folder: Path) -> None:
    (folder / "v2.yaml").write_bytes(b"openapi: \xff")
    assert "v2.yaml: byte 10 is not UTF-8" in run("v1.yaml", "v2.yaml", code=2)
    assert "can't be read: Is a directory" in run("v1.yaml", folder, code=2)
    assert "name a plan, or V1's document and V2's" in run("a", "b", "c", code=2)
    assert "has no `contract`" in run(_plan_without(folder), code=2)
    assert "write such as /v1=/v2" in run("v1.yaml", "v1.yaml", "--prefix", "v1", code=2)


def _plan_without(folder: Path) -> Path:
    plan = folder / "plan.yaml"
    plan.write_text(PLAN.format(port=1, v1=2, v2=3))
    return plan


# ── from URLs ──


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    pages: dict[str, tuple[int, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", pages
    server.shutdown()
    thread.join()
    server.server_close()


def test_documents_are_read_from_urls_with_what_they_refer_to_there(
    folder: Path, site: tuple[str, dict[str, tuple[int, bytes]]]
) -> None:
    url, pages = site
    pages["/docs/v2.yaml"] = (200, V2.encode())
    pages["/docs/parts2.yaml"] = (200, PARTS2.encode())
    said = run("v1.yaml", f"{url}/docs/v2.yaml", "--prefix", "/v1=/v2", code=1)
    assert f"  v2 {url}/docs/parts2.yaml:1\n" in said
    pages["/docs/v2.yaml"] = (200, V2.replace("parts2.yaml", "http://example.com/x").encode())
    assert "on another server, which is not asked" in run("v1.yaml", f"{url}/docs/v2.yaml", code=2)
    pages["/docs/v2.yaml"] = (200, V2.replace("parts2.yaml", (folder / "parts2.yaml").as_uri()).encode())
    assert "on another server, which is not asked" in run("v1.yaml", f"{url}/docs/v2.yaml", code=2)
    pages["/moved"] = (302, b"")
    assert "/moved answers with status 302" in run("v1.yaml", f"{url}/moved", code=2)
    assert "/none answers with status 404" in run("v1.yaml", f"{url}/none", code=2)
    pages["/huge"] = (200, b" " * (20 * 1024 * 1024 + 1))
    assert "/huge is longer than 20,971,520 bytes" in run("v1.yaml", f"{url}/huge", code=2)
    assert "can't be read" in run("v1.yaml", "http://127.0.0.1:1/x", code=4)


# ── text ──


def test_yaml_is_read_as_json_would_be() -> None:
    text = Text(
        'on: no\n200: 2020-01-01\n"x": "1"\nn: [1, -2, 1.5, 1e3, null, ~, true, False, 0x1F, 1_000]\n? k\n: v\n'
    )
    assert text.value == {
        "on": "no",
        "200": "2020-01-01",
        "x": "1",
        "n": [1, -2, 1.5, 1000.0, None, None, True, False, "0x1F", "1_000"],
        "k": "v",
    }


def test_aliases_share_and_never_blow_up() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    value = Text(bomb).value
    assert value["a59"][0] is value["a59"][1]
    assert len(list(references(value))) == 0


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text("ab/~\"\\ \n{[,:", max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab/~\"\\ {[,:", max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text("abc/~", min_size=1, max_size=4), json_values, min_size=1, max_size=4))
def test_the_lines_of_json_are_those_of_the_same_text_as_yaml(value: dict[str, Any]) -> None:
    """PyYAML tells where everything is; the lines that are looked up in JSON are the same."""
    text = json.dumps(value, indent=1)
    as_json, as_yaml = Text(text), Text("# yaml\n" + text)
    assert as_json.value == as_yaml.value == value
    pointers = [f"/{key.replace('~', '~0').replace('/', '~1')}" for key in value]
    assert [as_json.line(pointer) + 1 for pointer in pointers] == [as_yaml.line(pointer) for pointer in pointers]


def test_a_line_is_that_of_the_nearest_part_that_is_known() -> None:
    text = Text(json.dumps(answering({"type": "object"}), indent=1))
    assert text.line("/openapi/nothing/here") == 2
    assert text.line("") == 1


@pytest.fixture
def asked(folder: Path, site: tuple[str, dict[str, tuple[int, bytes]]]) -> Path:
    """Return a plan whose versions both are the site, which answers some paths."""
    url, pages = site
    for version in ("v1", "v2"):
        pages[f"/{version}/trips?to=%C3%BC&x=1"] = (200, json.dumps({"of": version, "price": "<i>`9`"}).encode())
        pages[f"/{version}/trips"] = pages[f"/{version}/trips?to=%C3%BC&x=1"]
        pages[f"/{version}/trips?text"] = (200, b"<b>no</b>")
    port = url.rpartition(":")[2]
    text = PLAN.format(port=1, v1=port, v2=port)
    (folder / "asked.yaml").write_text(f"{text}contract: {{v1: v1.yaml, v2: v2.yaml}}\n")
    return folder / "asked.yaml"


def test_the_page_shows_real_answers(asked: Path) -> None:
    page = run(asked, "-o", "markdown", "--ask", "/v1/trips?to=ü&x=1")
    assert "V1 answered GET /v1/trips?to=ü&x=1 with:" in page.replace("\\", "")
    assert (page.count('"price": "<i>`9`"'), '"of": "v2"' in page) == (2, True)  # inside fences
    html = run(asked, "-o", "html", "--ask", "/v1/trips")
    assert ("&lt;i&gt;`9`" in html, "<i>" in html) == (True, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "html", "--ask", "/v1/other"), "is no GET of V1's document; it has /v1/trips"),
        (("-o", "html", "--ask", "/v1/trips?gone"), "is answered with 404"),
        (("-o", "html", "--ask", "/v1/trips?text"), "is not answered with JSON"),
        (("--ask", "/v1/trips"), "--ask is for the page"),
    ],
)
def test_what_can_not_be_shown_is_one_clear_error(asked: Path, words: tuple[str, ...], message: str) -> None:
    assert message in run(asked, *words, code=2)


def test_a_service_that_is_away_is_told(asked: Path) -> None:
    asked.write_text(re.sub(r"upstreams: \[[^]]*\]", f"upstreams: [127.0.0.1:{free_port()}]", asked.read_text()))
    assert "gives no answer" in run(asked, "-o", "html", "--ask", "/v1/trips", code=4)


def test_without_a_plan_nobody_knows_whom_to_ask(folder: Path) -> None:
    assert "--ask is for the page" in run("v1.yaml", "v2.yaml", "-o", "html", "--ask", "/v1/trips", code=2)
