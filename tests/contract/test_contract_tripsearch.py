"""The reference service: V2 keeps what V1 promises, and both answer what they promise when they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks
from tests.contract.documents import Json, compared, told
from tests.tripsearch.running import Starter

from crossfade.app.cli import main
from crossfade.core.contract.compare import prefixes_of
from tripsearch import openapi
from tripsearch.v1 import V1
from tripsearch.v2 import V2

PREFIXES = prefixes_of(V1.path, V2.path)
CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)


def promised(version: type[V1 | V2]) -> Any:
    return orjson.loads(openapi.document(version.number, version.path))


def test_v2_keeps_what_v1_promises_and_the_documents_are_openapi() -> None:
    assert compared(promised(V1), promised(V2), PREFIXES) == []
    validate(promised(V1))
    validate(promised(V2))


def _rename_night(schemas: Json) -> None:
    hotel = schemas["Hotel"]
    hotel["properties"]["price_usd"] = hotel["properties"].pop("night_usd")
    hotel["required"] = ["name", "stars", "price_usd"]


def _price_as_text(schemas: Json) -> None:
    schemas["Hotel"]["properties"]["night_usd"] = {"type": "string"}


def _hotels_left_out(schemas: Json) -> None:
    schemas["Trip"]["required"].remove("hotels")


FAULTS: list[tuple[Callable[[Json], None], set[tuple[str, str]]]] = [
    (_rename_night, {("response-property-removed", "200 /hotels/*/night_usd")}),
    (_price_as_text, {("response-type-widened", "200 /hotels/*/night_usd")}),
    (_hotels_left_out, {("response-property-optional", "200 /hotels")}),
]


@pytest.mark.parametrize(("plant", "expected"), FAULTS, ids=["renamed", "price as text", "hotels left out"])
def test_a_v2_that_breaks_a_promise_is_told_of_for_the_right_reason(
    plant: Callable[[Json], None], expected: set[tuple[str, str]]
) -> None:
    spoiled = promised(V2)
    plant(spoiled["components"]["schemas"])
    assert told(compared(promised(V1), spoiled, PREFIXES)) == expected


def _called(url: str, document: Json, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)

        @given(case=found.ok().as_strategy(generation_mode=mode))
        @settings(
            max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        def ask(case: Any) -> None:
            case.call_and_validate(base_url=url, timeout=20, checks=CHECKS)

        ask()


def _real(document: Json) -> Json:
    """Return the document with questions that find something: random letters are no airport."""
    parameters = next(iter(document["paths"].values()))["get"]["parameters"]
    for parameter, values in zip(parameters, (["JFK", "EWR", "lga"], ["LAX", "BOS", "ORD"]), strict=False):
        parameter["schema"] = {"enum": values}
    return document


@pytest.mark.slow
def test_every_operation_of_both_answers_what_it_promises(start_once: Starter) -> None:
    weather = start_once.start("weather-provider")
    v1 = start_once.start("v1")
    v2 = start_once.start("v2", "--weather", weather.url, "--weather-timeout-ms", "200")
    for version, running in ((V1, v1), (V2, v2)):
        for mode in GenerationMode:
            _called(running.url, promised(version), mode)
        _called(running.url, _real(promised(version)), GenerationMode.POSITIVE)
    weather.control(mode="fail")
    _called(v2.url, _real(promised(V2)), GenerationMode.POSITIVE)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [_rename_night, _price_as_text], ids=["renamed", "price as text"])
def test_a_service_that_answers_otherwise_than_it_promises_is_caught(
    start_once: Starter, plant: Callable[[Json], None]
) -> None:
    v1 = start_once.start("v1")
    document = _real(promised(V1))
    plant(document["components"]["schemas"])
    with pytest.raises(FailureGroup) as caught:
        _called(v1.url, document, GenerationMode.POSITIVE)
    assert "night_usd" in str(caught.value.exceptions) or "price_usd" in str(caught.value.exceptions)


@pytest.mark.slow
def test_the_shipped_plan_compares_the_services_own_documents(start_once: Starter, tmp_path: Path) -> None:
    v1 = start_once.start("v1")
    v2 = start_once.start("v2", "--weather", "http://127.0.0.1:1")
    shipped = Path(__file__).parents[2] / "plans" / "trips-v2.yaml"
    text = shipped.read_text().replace("127.0.0.1:8101", v1.url[7:]).replace("127.0.0.1:8102", v2.url[7:])
    plan = tmp_path / "plan.yaml"
    plan.write_text(text.replace("cohorts/", f"{shipped.parent}/cohorts/"))
    done = CliRunner().invoke(main, ["contract", str(plan)])
    assert (done.exit_code, done.output) == (0, "V2 keeps V1's contract: 0 breaking, 0 warnings\n")
