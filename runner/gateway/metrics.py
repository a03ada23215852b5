"""The gateway's metrics, for Prometheus."""

from prometheus_client import Counter, Histogram

from runner.gateway.model_load import LoadGauges
from runner.http.metrics import HttpMetrics

SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)


class GatewayMetrics(HttpMetrics):
    def __init__(self) -> None:
        super().__init__()
        self.loads = Counter("diptych_loads", "Models loaded", ("model",), registry=self.registry)
        self.load_seconds = Histogram(
            "diptych_load_seconds",
            "From the start of a runner until it is healthy",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.wait_seconds = Histogram(
            "diptych_wait_seconds",
            "How long requests waited for their model",
            buckets=(0.001, 0.01, 0.1, *SECONDS),
            registry=self.registry,
        )
        self.drafted = Counter(
            "diptych_drafted_tokens", "Tokens drafted ahead of the model", ("model",), registry=self.registry
        )
        self.accepted = Counter(
            "diptych_accepted_tokens",
            "Tokens drafted ahead of the model that it chose as well",
            ("model",),
            registry=self.registry,
        )
        self.ended = Counter(
            "diptych_unloads", "Models unloaded, by reason", ("model", "why"), registry=self.registry
        )
        self.model_loads = LoadGauges(self.registry)
        self.crashes = Counter("diptych_crashes", "Runners that died", ("model",), registry=self.registry)
