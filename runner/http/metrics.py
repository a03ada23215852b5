"""Metrics of the HTTP servers, for Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class HttpMetrics:
    """Metrics of every server, in a registry of its own, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "diptych_requests", "Requests answered", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "diptych_request_seconds",
            "From the head of a request to the last byte of its response",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first = Histogram(
            "diptych_first_event_seconds",
            "From a completion's request to its first event",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.cancelled = Counter(
            "diptych_cancelled", "Requests whose client disconnected before the end", registry=self.registry
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that is read on each scrape."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Metrics(HttpMetrics):
    """Metrics of a runner."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_tokens = Counter("diptych_prompt_tokens", "Tokens of prompts", registry=self.registry)
        self.cached_tokens = Counter(
            "diptych_cached_prompt_tokens",
            "Prompt tokens taken from the prefix cache",
            registry=self.registry,
        )
        self.tokens = Counter("diptych_generated_tokens", "Tokens generated", registry=self.registry)
        self.drafted = Counter(
            "diptych_drafted_tokens", "Tokens drafted ahead of the model", registry=self.registry
        )
        self.accepted = Counter(
            "diptych_accepted_tokens",
            "Tokens drafted ahead of the model that it chose as well",
            registry=self.registry,
        )
        self.pictures = Counter("diptych_pictures", "Pictures drawn", registry=self.registry)
        self.picture_seconds = Histogram(
            "diptych_picture_seconds",
            "Time of one phase of drawing, per request",
            ("part",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def count_done(self, event: Any) -> None:
        """Count the last event of a text."""
        self.prompt_tokens.inc(event.prompt_eval_count)
        self.cached_tokens.inc(event.cached)
        self.tokens.inc(event.eval_count)
        self.drafted.inc(event.drafted)
        self.accepted.inc(event.accepted)

    def count_drawn(self, event: Any, pictures: int) -> None:
        """Count the last event of a drawing."""
        self.pictures.inc(pictures)
        for part in ("prompt_eval", "eval", "decode"):
            self.picture_seconds.labels(part).observe(getattr(event, f"{part}_duration") / 1e9)
