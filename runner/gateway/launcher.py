"""Backends that are processes on this machine."""

import secrets
from collections.abc import Sequence
from typing import Self

from runner.gateway.backend import Backend, Endpoint
from runner.gateway.metrics import GatewayMetrics
from runner.gateway.replicas import Replicas
from runner.gateway.resolver import ResolvedModel
from runner.gateway.settings import Settings
from runner.hardware import VISIBLE
from runner.process.supervisor import Server


class SingleRunner(Server):
    """One process, which serves all leases."""

    replicas = None

    def pick(self) -> Self:
        return self

    def give_back(self, endpoint: Endpoint) -> None:
        """Nothing to keep count of."""


class ProcessLauncher:
    """Runs `diptych runner`, once for a model or once for each of its replicas."""

    def __init__(self, settings: Settings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics

    def launch(self, model: ResolvedModel, options: Sequence[str]) -> Backend:
        def make(index: int) -> SingleRunner:
            # Without the mode, it looks at the files once more: they may be gone by now.
            return SingleRunner(
                model.argument,
                options=[*model.options, *options],
                load_timeout=self._settings.load_timeout,
                key=secrets.token_urlsafe(24),
                variables={VISIBLE: model.cards[index]} if model.cards else None,
            )

        if model.replicas == 1:
            return make(0)
        return Replicas(
            make,
            model.replicas,
            apart=bool(model.cards),
            unresponsive=self._settings.unresponsive,
            on_death=self._metrics.crashes.labels(model.name).inc,
        )
