"""Traces: the parts of a tick under it, sent where OTEL_* says, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.app.lived import Lived

from crossfade.adapters import otel
from crossfade.adapters.otel import Traces, traces_wanted
from crossfade.errors import ConflictError


class Told:
    """A rollout whose spans are kept in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.lived = Lived()
        self.lived.meters._trace = partial(Traces(provider).span, rollout="trips-v2")

    def spans(self) -> tuple[ReadableSpan, ...]:
        found = self._exporter.get_finished_spans()
        self._exporter.clear()
        return found


@pytest.fixture
async def told() -> Told:
    told = Told()
    await told.lived.begin(1)
    told.spans()
    return told


def _tree(spans: tuple[ReadableSpan, ...]) -> dict[str, list[str]]:
    names = {span.context.span_id: span.name for span in spans if span.context}
    tree: dict[str, list[str]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        tree.setdefault(names[span.parent.span_id] if span.parent else "", []).append(span.name)
    return tree


async def test_a_tick_has_its_parts_in_order(told: Told) -> None:
    await told.lived.hour()
    spans = told.spans()
    assert _tree(spans) == {"": ["tick"], "tick": ["observe", "record", "read back", "decide", "record"]}
    (decided,) = (dict(span.attributes or {}) for span in spans if span.name == "decide")
    decision = told.lived.controller.decision
    assert decision is not None
    assert decided == {
        "crossfade.rollout": "trips-v2",
        "crossfade.outcome": decision.outcome.value,
        "crossfade.reason": decision.reason,
    }


async def test_a_verb_holds_what_was_done_for_it(told: Told) -> None:
    await told.lived.controller.promote("ada", "on")
    assert _tree(told.spans()) == {"": ["promote"], "promote": ["record", "apply", "record"]}
    await told.lived.controller.rollback("ada", "back")
    spans = told.spans()
    assert _tree(spans) == {"": ["rollback"], "rollback": ["roll back", "record"]}
    (thrown,) = (dict(span.attributes or {}) for span in spans if span.name == "roll back")
    assert thrown["crossfade.complete"] is True
    assert thrown["crossfade.by"] == "ada"


async def test_a_verb_that_is_refused_is_an_error_in_the_trace(told: Told) -> None:
    with pytest.raises(ConflictError):
        await told.lived.controller.resume("ada", "")
    (span,) = told.spans()
    assert (span.name, span.status.is_ok) == ("resume", False)


class Receiver(ThreadingHTTPServer):
    """An OTLP receiver on loopback; where it hangs, it answers nothing until it is closed."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.over, self.asked = threading.Event(), threading.Event()
        self.taken: list[Any] = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Any]:
        scopes = (scope for sent in self.taken for resource in sent.resource_spans for scope in resource.scope_spans)
        return [span for scope in scopes for span in scope.spans]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        if self.server.hangs:
            self.server.over.wait(60)
            return
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME", *otel._ENDPOINTS, *otel._PROTOCOLS):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


async def test_a_real_receiver_gets_the_spans_under_the_name_that_is_set(clean: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    clean.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    clean.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    traces = traces_wanted()
    assert traces is not None
    lived = Lived()
    lived.meters._trace = partial(traces.span, rollout="trips-v2")
    await lived.begin(2)
    await asyncio.to_thread(traces.close)
    receiver.shutdown()
    assert {span.name for span in receiver.spans()} >= {"tick", "observe", "decide", "record", "read back", "apply"}
    named = {a.key: a.value.string_value for a in receiver.taken[0].resource_spans[0].resource.attributes}
    assert named["service.name"] == "crossfade"
    assert named["deployment.environment"] == "test"


async def test_a_receiver_that_hangs_delays_neither_rollback_nor_end(
    clean: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many more spans than the queue takes, all of them while a batch is stuck in the exporter."""
    receiver = Receiver(hangs=True)
    clean.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    clean.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    clean.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    clean.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    clean.setattr(otel, "CLOSE_S", 0.1)
    traces = traces_wanted()
    assert traces is not None
    lived = Lived()
    lived.meters._trace = partial(traces.span, rollout="trips-v2")
    await lived.begin(1)
    assert await asyncio.to_thread(receiver.asked.wait, 30)
    for _ in range(40):
        await lived.hour()
    rollout = await asyncio.wait_for(lived.controller.rollback("ada", "now"), 10)
    assert rollout.state == "rolled_back"
    await asyncio.wait_for(asyncio.to_thread(traces.close), 10)
    assert "they are lost" in caplog.text
    assert "Queue full" not in caplog.text
    receiver.over.set()
    receiver.shutdown()


@pytest.mark.parametrize(
    ("variables", "wanted", "said"),
    [
        ({}, False, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, ""),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False, "by otlp only, not zipkin"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            False,
            "only, not grpc",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, False, "can't be meant"),
    ],
)
def test_the_variables_decide(
    variables: dict[str, str], wanted: bool, said: str, clean: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        clean.setenv(name, value)
    clean.setattr(otel, "CLOSE_S", 0.1)
    traces = traces_wanted()
    assert (traces is not None) is wanted
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)
    if traces is not None:
        traces.close()


def test_without_the_extra_it_says_what_to_install(clean: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clean.setenv("OTEL_TRACES_EXPORTER", "otlp")
    clean.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert traces_wanted() is None
    assert "pip install 'crossfade[otel]'" in caplog.text


def test_where_nobody_asks_nothing_is_loaded(clean: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, crossfade.app.bootstrap\nfrom crossfade.adapters.otel import traces_wanted\n"
        "print(traces_wanted(), sorted(name for name in sys.modules if name.startswith('opentelemetry.sdk')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["None", "[]"]
