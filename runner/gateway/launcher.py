"""Backends that are processes on this machine."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from prometheus_client import Counter

from runner.gateway.backend import Backend, Endpoint
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.peer import Peer
from runner.gateway.places import Place
from runner.gateway.replicas import Replicas, Runner
from runner.gateway.resolver import LOCAL, ResolvedModel
from runner.gateway.settings import Settings
from runner.hardware import VISIBLE
from runner.process.supervisor import Server


class SingleRunner(Server):
    """A single process, which serves all leases. Its counters are added to the gateway's metrics at each health check."""

    replicas = None
    counters: Mapping[str, Counter] = {}  # by the name in its status

    async def refresh(self) -> Mapping[str, Any]:
        before = self._status
        status = await super().refresh()
        for name, counter in self.counters.items():
            counter.inc(max(0, int(status.get(name, 0)) - int(before.get(name, 0))))
        return status

    def pick(self) -> Self:
        return self

    def give_back(self, endpoint: Endpoint) -> None:
        """There is nothing to count."""


class ProcessLauncher:
    """Runs `diptych runner`, once for a model or once for each of its replicas; those on other machines are asked."""

    def __init__(self, settings: Settings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics

    def launch(self, model: ResolvedModel, options: Sequence[str]) -> Backend:
        metrics = self._metrics
        counters = {
            "drafted": metrics.drafted.labels(model.name),
            "accepted": metrics.accepted.labels(model.name),
        }

        def make(index: int) -> SingleRunner:
            # Without the mode, it looks at the files once more: they may be gone by now.
            runner = SingleRunner(
                model.argument,
                options=[*model.options, *options],
                load_timeout=self._settings.load_timeout,
                key=secrets.token_urlsafe(24),
                variables={VISIBLE: model.cards[index]} if model.cards else None,
            )
            runner.counters = counters
            return runner

        if model.addresses:
            return self._spread(model, make)
        if model.replicas == 1:
            return make(0)
        return Replicas(
            make,
            model.replicas,
            apart=bool(model.cards),
            unresponsive=self._settings.unresponsive,
            on_death=self._metrics.crashes.labels(model.name).inc,
        )

    def _spread(self, model: ResolvedModel, make: Callable[[int], SingleRunner]) -> Backend:
        settings = self._settings

        def at(index: int) -> Runner:
            address = model.addresses[index]
            if address == LOCAL:
                return make(0)
            place = Place.parse(address, model.called)
            return Peer(place, settings.replica_key, instead)

        def instead(of: Runner, here: bool) -> Runner | None:
            return replicas.instead(of, here)

        replicas = Replicas(
            at,
            len(model.addresses),
            apart=False,
            unresponsive=settings.unresponsive,
            on_death=self._metrics.crashes.labels(model.name).inc,
            all_start=False,
        )
        return replicas
