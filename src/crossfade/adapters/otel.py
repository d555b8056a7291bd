"""Traces of the engine's work, sent by OpenTelemetry's SDK: the extra `crossfade[otel]`, set by its OTEL_* variables.

Spans are handed to a thread of the SDK's own through a queue that drops what doesn't fit. A receiver that hangs holds
that thread, and nothing else; neither is it waited for at the end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from crossfade.ports import Fact, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as Traced

log = logging.getLogger("crossfade.otel")

CLOSE_S = 2.0
"""Real seconds that the last spans have to be sent in at the end."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SENT_BY = "http/protobuf"


class Traces:
    """Opens spans at a provider of the SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("crossfade", version("crossfade"))

    @contextmanager
    def span(self, name: str, **facts: Fact) -> Iterator[Span]:
        """Open a span; it is part of the one that is open in the same task."""
        with self._tracer.start_as_current_span(name, attributes=_attributes(facts)) as span:
            yield _Open(span)

    def close(self) -> None:
        """Send what is left, as far as that is possible in `CLOSE_S`."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            log.warning("the last traces were not taken within %g s; they are lost", CLOSE_S)


class _Open:
    """Keeps `ports.Span`."""

    def __init__(self, span: Traced) -> None:
        self._span = span

    def tell(self, **facts: Fact) -> None:
        """Add attributes."""
        self._span.set_attributes(_attributes(facts))


def _attributes(facts: dict[str, Any]) -> dict[str, Any]:
    return {f"crossfade.{name}": value for name, value in facts.items()}


def traces_wanted() -> Traces | None:
    """Return where the OTEL_* variables want traces sent; None where they want none.

    What they want and can't be done is logged and left: they may be meant for every program on the machine, and no
    rollout stops for a trace.
    """
    if not wanted():
        return None
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _SENT_BY)
    if protocol != _SENT_BY:
        log.warning("traces are sent by %s only, not %s; none are sent", _SENT_BY, protocol)
        return None
    try:
        return Traces(_provider())
    except ImportError:
        log.warning("traces need the extra: `pip install 'crossfade[otel]'`; none are sent")
    except ValueError as error:
        log.warning("the OTEL_* variables can't be meant, and no traces are sent: %s", error)
    return None


def wanted() -> bool:
    """Tell whether the OTEL_* variables want traces sent in a way that we have; others are logged."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in ("", "otlp", "none"):
        log.warning("traces are sent by otlp only, not %s; none are sent", exporter)
        return False
    return exporter == "otlp" or (not exporter and any(os.environ.get(name) for name in _ENDPOINTS))


def _provider() -> TracerProvider:
    # Imported where they are wanted: they cost a third of a second, and may not be there.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # It warns of every span that is dropped and of every try that is repeated; errors remain.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": "crossfade"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # `close` ends it, with a bound
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
