"""What a runner has counted is counted by the gateway, once."""

import asyncio
from typing import Any

import pytest

from runner.gateway.launcher import SingleRunner
from runner.gateway.metrics import GatewayMetrics


def test_drafted_tokens_are_added_up_over_a_runners_health_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = GatewayMetrics()
    statuses = iter(
        [{"drafted": 0, "accepted": 0}, {"drafted": 7, "accepted": 5}, {"drafted": 9, "accepted": 6}, {}]
    )
    runner = SingleRunner("toy")
    runner.counters = {"drafted": metrics.drafted.labels("toy"), "accepted": metrics.accepted.labels("toy")}

    async def answer(method: str, path: str, body: Any = None) -> Any:
        return next(statuses)

    monkeypatch.setattr(runner, "_request", answer)

    async def checks() -> None:
        for _ in range(4):
            await runner.refresh()

    asyncio.run(checks())
    text = metrics.text().decode()
    assert 'diptych_drafted_tokens_total{model="toy"} 9.0' in text
    assert 'diptych_accepted_tokens_total{model="toy"} 6.0' in text
