"""Traces as a collector gets them: from a gateway and its runners, continued from the client's own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.pipelines import toys
from tests.runner.gateway.live import Gateway
from tests.toys import toy_text
from tests.waiting import wait_until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.spans: list[tuple[str, Any]] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(
                    self.rfile.read(int(self.headers["content-length"]))
                )
                for of_process in request.resource_spans:
                    attributes = {one.key: one.value.string_value for one in of_process.resource.attributes}
                    for scope in of_process.scope_spans:
                        spans.extend((attributes["service.name"], span) for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def named(self, service: str, name: str) -> list[Any]:
        return [span for of, span in self.spans if (of, span.name) == (service, name)]


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    collector = Collector()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()


def test_a_request_is_one_trace_from_the_gateway_to_the_steps_of_its_runner(
    collector: Collector, tmp_path: Path
) -> None:
    port = collector.server.server_address[1]
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    folders = {"toy": toy_text(), "klein": toys.write("klein", tmp_path / "klein").folder}
    with Gateway(folders, pretend=False, environment=environment, memory=64 * 1024**3, force=True) as gateway:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
        body = {"model": "toy", "messages": [{"role": "user", "content": "The sea"}], "max_tokens": 4}
        gateway.http.post("/v1/chat/completions", json=body, headers=headers).raise_for_status()
        drawing = {"model": "klein", "prompt": "A boat", "size": "64x64", "n": 1}
        gateway.http.post("/v1/images/generations", json=drawing).raise_for_status()
        gateway.http.get("/healthz").raise_for_status()
        wait_until(lambda: len(collector.named("diptych-runner", "denoise")) == 1)
        wait_until(lambda: len(collector.named("diptych", "POST /v1/images/generations")) == 1)

    (chat,) = collector.named("diptych", "POST /v1/chat/completions")
    assert (chat.trace_id.hex(), chat.parent_span_id.hex()) == (TRACE, PARENT)
    facts = {one.key: one.value for one in chat.attributes}
    assert facts["http.response.status_code"].int_value == 200
    assert facts["diptych.request_id"].string_value == "mine"
    (load,) = [span for span in collector.named("diptych", "load") if span.trace_id == chat.trace_id]
    assert load.parent_span_id == chat.span_id
    of_runner = {
        span.name: span
        for service, span in collector.spans
        if service == "diptych-runner" and span.trace_id == chat.trace_id
    }
    request = of_runner.pop("POST /completion")
    assert request.parent_span_id == chat.span_id
    assert {one.key: one.value for one in request.attributes}["gen_ai.usage.output_tokens"].int_value == 4
    assert of_runner.keys() == {"queue", "prompt", "decode"}
    steps = [of_runner[name] for name in ("queue", "prompt", "decode")]
    assert all(step.parent_span_id == request.span_id for step in steps)
    ends = [time for step in steps for time in (step.start_time_unix_nano, step.end_time_unix_nano)]
    assert ends == sorted(ends)
    drawn = {
        span.name
        for service, span in collector.spans
        if service == "diptych-runner" and span.trace_id != chat.trace_id
    }
    assert drawn == {"POST /completion", "queue", "load", "encode", "denoise", "decode"}
    assert not any("healthz" in span.name for _, span in collector.spans)


def test_nothing_of_it_is_imported_without_a_collector() -> None:
    code = (
        "import sys, runner.http.middleware, runner.http.tracing as t; t.start('x'); "
        "assert not t.enabled() and t.outgoing() == []; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_without_the_extra_it_says_so() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.exporter'] = None; import logging; logging.basicConfig(); "
        "import runner.http.tracing as t; t.start('x'); assert not t.enabled()"
    )
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "pip install 'diptych[otel]'" in done.stderr
