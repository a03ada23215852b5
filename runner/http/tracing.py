"""Traces of requests in OpenTelemetry's form, sent to a collector by OTLP: a span for each request, and for its steps.

On only if a collector is named, as OpenTelemetry's own variables do (OTEL_EXPORTER_OTLP_ENDPOINT), and the extra `otel` is
installed; without that nothing of it is imported. A client's `traceparent` is continued, and passed on to runners.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

log = logging.getLogger("diptych.http")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PASSED_ON = ("traceparent", "tracestate")
LEAVE_SECONDS = 2.0  # for the last spans, when the process ends


class _Tracing:
    """What is needed of OpenTelemetry, once it is on."""

    def __init__(self, service: str, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.provider = provider
        self.tracer = provider.get_tracer(service)
        self.propagator = TraceContextTextMapPropagator()


_tracing: _Tracing | None = None


def start(service: str) -> None:
    """Trace this process's requests, if a collector is named."""
    global _tracing
    endpoint = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(
            "%s is set, but there are no traces without the extra: pip install 'diptych[otel]'", endpoint
        )
        return
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracing = _Tracing(service, provider)


def stop() -> None:
    """Send what was not sent yet."""
    if _tracing is not None:
        _tracing.provider.force_flush(int(LEAVE_SECONDS * 1e3))


def enabled() -> bool:
    return _tracing is not None


class Span:
    """A request's. While it lasts, it is the parent of what the same task does."""

    def __init__(self, name: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        from opentelemetry import context, trace

        assert _tracing is not None, "made only while tracing is on"
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        parent = _tracing.propagator.extract({key: given[key] for key in PASSED_ON if key in given})
        self._span = _tracing.tracer.start_span(name, parent, kind=trace.SpanKind.SERVER)
        self._own = trace.set_span_in_context(self._span)
        self._zero = time.time_ns() - int(time.perf_counter() * 1e9)  # when that clock began
        self._token = context.attach(self._own)

    def set(self, facts: Mapping[str, str | int]) -> None:
        self._span.set_attributes(facts)

    def step(self, name: str, start: float, end: float) -> None:
        """A part of it that is over, in seconds by time.perf_counter."""
        assert _tracing is not None
        at = [self._zero + int(moment * 1e9) for moment in (start, end)]
        _tracing.tracer.start_span(name, self._own, start_time=at[0]).end(at[1])

    def end(self, name: str, status: int, facts: Mapping[str, str]) -> None:
        from opentelemetry import context
        from opentelemetry.trace import Status, StatusCode

        self._span.update_name(name)
        self.set(
            {"http.response.status_code": status, **{key: value for key, value in facts.items() if value}}
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
        context.detach(self._token)


@contextmanager
def step(name: str, **facts: str) -> Iterator[None]:
    """A part of the current request, while it lasts."""
    if _tracing is None:
        yield
        return
    with _tracing.tracer.start_as_current_span(name, attributes=facts):
        yield


def outgoing() -> list[tuple[str, str]]:
    """Headers of a request that is made for the current one."""
    if _tracing is None:
        return []
    headers: dict[str, str] = {}
    _tracing.propagator.inject(headers)
    return list(headers.items())
