"""The API's description is valid OpenAPI, and whatever is asked, the answer is one that it describes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from schemathesis import GenerationMode, checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi_checks
from tests.app.serving import BASE, PLAN, TOKEN, Asked, asked, served_with

from crossfade.app.api import make_api
from crossfade.app.web import schemas
from crossfade.engine.controller import Controller, Parts
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """An API in a thread of its own, for clients that block; its rollout has been looked at once."""
    ready, over = threading.Event(), asyncio.Event()
    found: list[tuple[Asked, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        async with asked(tmp_path_factory.mktemp("api")) as api:
            await api.carried.controller.tick()
            found.append((api, asyncio.get_running_loop()))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(120)
    yield found[0][0]
    found[0][1].call_soon_threadsafe(over.set)
    thread.join(30)


@pytest.fixture(scope="module")
def description(api: Asked) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{api.url}/openapi.json", timeout=10).json()
    return found


def test_the_description_is_valid(description: dict[str, Any]) -> None:
    validate(description)


def test_every_operation_is_told_in_words_and_every_answer_has_a_schema(description: dict[str, Any]) -> None:
    operations = [(p, m, o) for p, methods in description["paths"].items() for m, o in methods.items()]
    assert len(operations) > 25
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert operation.get("description"), where
        for status, answer in operation["responses"].items():
            if status not in ("204", "304"):
                assert [kind for kind in answer["content"].values() if kind.get("schema")], (where, status)
        wants = path.startswith(("/api/", "/ofrep/"))
        assert bool(operation.get("security")) == wants, where


def _operations() -> dict[str, Any]:
    clock, store, telemetry = ManualClock(), MemoryStore(), FakeTelemetry()
    proxy = FakeProxy()
    parts = Parts(store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock)
    served = served_with(Controller(PLAN, parts), store, telemetry, clock, Path("unused"))
    schema = schemathesis.openapi.from_dict(make_api(served).openapi()).exclude(path_regex="/stream$")
    found = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    return {operation.label: operation for operation in found}


OPERATIONS = _operations()
CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", OPERATIONS)
def test_whatever_is_asked_the_answer_is_described(label: str, mode: GenerationMode, api: Asked) -> None:
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "trips-v2"
        case.call_and_validate(base_url=api.url, headers=HEADERS, timeout=20, checks=CHECKS)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # it takes nothing that could be wrong


def test_what_a_rollout_that_was_looked_at_tells_is_as_described(api: Asked) -> None:
    """Readings, gates and decisions are there, and nothing that the models don't know."""
    status = requests.get(f"{api.url}{BASE}", headers=HEADERS, timeout=10).json()
    assert status["gates"]
    assert status["metrics"]
    assert schemas.Status.model_validate(status).decision is not None
    metrics = requests.get(f"{api.url}{BASE}/metrics", headers=HEADERS, timeout=10).json()
    read = [schemas.Metric.model_validate(metric).reading for metric in metrics]
    assert any(read)
