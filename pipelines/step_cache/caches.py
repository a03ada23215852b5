"""What is computed of each step, and what is reused. One object serves a request, and begins anew with each picture.

A network that can be cached has its step in parts: `begin`, `first_block`, `other_blocks`, `output`. The rows of a batch are the
prompt and the negative prompt; each has its own history, as if they were computed apart.
"""

import math
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from pipelines.step_cache.settings import FirstBlock, Mag, Settings, TaylorSeer


class Transformer(Protocol):
    """A network's step, and parts of it by name."""

    def step(self, *arguments: Any) -> mx.array: ...

    def run(self, part: str, *arguments: Any) -> Any: ...


class StepCache:
    """Computes every step."""

    def __init__(self) -> None:
        self.skipped = 0  # steps, of all pictures

    def begin(self) -> None:
        """Forget the last picture."""

    def step(
        self,
        network: Transformer,
        index: int,
        tokens: mx.array,
        prepared: Any,
        modulation: Any,
        *residuals: Any,
    ) -> mx.array:
        """The network's output at a step."""
        return network.step(tokens, prepared, modulation, *residuals)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told afterwards."""
        return ()


def step_cache(settings: Settings | None, steps: int) -> StepCache:
    """For pictures of so many steps."""
    if isinstance(settings, FirstBlock):
        return FirstBlockCache(settings)
    if isinstance(settings, Mag):
        return MagCache(settings, steps)
    return StepCache() if settings is None else TaylorSeerCache(settings)


class FirstBlockCache(StepCache):
    def __init__(self, settings: FirstBlock) -> None:
        super().__init__()
        self._threshold = settings.threshold
        self._change: mx.array | None = None  # by the first block, in the last computed step
        self._rest: mx.array | None = None  # by the others

    def begin(self) -> None:
        self._change = self._rest = None

    def step(
        self,
        network: Transformer,
        index: int,
        tokens: mx.array,
        prepared: Any,
        modulation: Any,
        *residuals: Any,
    ) -> mx.array:
        embedded = network.run("begin", tokens, prepared, modulation)
        streams = network.run("first_block", embedded, prepared, modulation)
        picture = streams[0]
        change = picture - embedded[0]
        if self._change is None or self._rest is None:
            whole = network.run("other_blocks", streams, prepared, modulation)
            self._change, self._rest = change, whole - picture
            return self._output(network, whole, tokens, modulation)
        change_before, rest = self._change[: len(picture)], self._rest[: len(picture)]
        alike = self._alike(change, change_before)
        if alike.all():
            self.skipped += 1
            return self._output(network, picture + rest, tokens, modulation)
        whole = network.run("other_blocks", streams, prepared, modulation)
        reused = mx.array(alike)[:, None, None]
        self._change = mx.where(reused, change_before, change)
        self._rest = mx.where(reused, rest, whole - picture)
        return self._output(network, mx.where(reused, picture + rest, whole), tokens, modulation)

    def _alike(self, change: mx.array, before: mx.array) -> np.ndarray:
        """For each row. Waits for the first block."""
        change, before = change.astype(mx.float32), before.astype(mx.float32)
        distance = mx.abs(change - before).mean(axis=(1, 2)) / mx.abs(before).mean(axis=(1, 2))
        return ~(np.array(distance) > self._threshold)

    def _output(self, network: Transformer, picture: mx.array, tokens: mx.array, modulation: Any) -> mx.array:
        result: mx.array = network.run("output", picture, tokens, modulation)
        mx.async_eval(result, self._change, self._rest)  # type: ignore[no-untyped-call]
        return result


class MagCache(StepCache):
    def __init__(self, settings: Mag, steps: int) -> None:
        super().__init__()
        self._skips = [False] * steps if settings.calibrate else mag_skips(settings, steps)
        self._calibrates = settings.calibrate
        self._ratios: list[mx.array] = []
        self._residual: mx.array | None = None  # of all blocks, in the last computed step

    def begin(self) -> None:
        self._residual = None
        self._ratios.clear()

    def step(
        self,
        network: Transformer,
        index: int,
        tokens: mx.array,
        prepared: Any,
        modulation: Any,
        *residuals: Any,
    ) -> mx.array:
        embedded = network.run("begin", tokens, prepared, modulation)
        if self._residual is not None and self._skips[index]:
            self.skipped += 1
            picture = embedded[0] + self._residual[: len(tokens)]
        else:
            streams = network.run("first_block", embedded, prepared, modulation)
            picture = network.run("other_blocks", streams, prepared, modulation)
            residual = picture - embedded[0]
            if self._calibrates:
                self._ratios.append(_ratio(residual[0], self._residual))
            self._residual = residual
        result: mx.array = network.run("output", picture, tokens, modulation)
        return result

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._ratios:
            return ()
        ratios = "/".join(f"{float(ratio):.5g}" for ratio in self._ratios)
        return (f"step_cache: measured ratios={ratios}",)


def mag_skips(settings: Mag, steps: int) -> list[bool]:
    """Which steps are skipped; nothing in it depends on the picture. In float32, as the reference adds up."""
    ratios = _stretched(np.array(settings.ratios, np.float32), steps)
    first = int(settings.retention_ratio * steps + 0.5)
    skips, ratio, error, skipped = [False] * steps, np.float32(1), np.float32(0), 0
    for index in range(max(first, 0), steps):
        ratio, skipped = ratio * ratios[index], skipped + 1
        error = error + abs(np.float32(1) - ratio)
        if index and error <= settings.threshold and skipped <= settings.max_skip_steps:
            skips[index] = True
        else:
            ratio, error, skipped = np.float32(1), np.float32(0), 0
    return skips


def _stretched(ratios: np.ndarray, steps: int) -> np.ndarray:
    """The nearest of those measured with another number of steps."""
    if len(ratios) == steps:
        return ratios
    if steps == 1:
        return ratios[-1:]
    scale = np.float32((len(ratios) - 1) / (steps - 1))
    nearest: np.ndarray = ratios[np.round(np.arange(steps, dtype=np.float32) * scale).astype(int)]
    return nearest


def _ratio(residual: mx.array, before: mx.array | None) -> mx.array:
    """How much longer the change of a token is than in the step before, on average."""
    if before is None:
        return mx.array(1.0)
    now, last = (mx.linalg.norm(x.astype(mx.float32), axis=-1) for x in (residual, before[0]))
    return (now / (last + 1e-8)).mean()


class TaylorSeerCache(StepCache):
    def __init__(self, settings: TaylorSeer) -> None:
        super().__init__()
        self._settings = settings
        self._factors: list[mx.array] = []  # the output at the last computed step, and its differences
        self._last, self._dtype = 0, mx.float32

    def begin(self) -> None:
        self._factors = []

    def step(
        self,
        network: Transformer,
        index: int,
        tokens: mx.array,
        prepared: Any,
        modulation: Any,
        *residuals: Any,
    ) -> mx.array:
        rows = [factor[: len(tokens)] for factor in self._factors]
        if rows and not self._computes(index):
            self.skipped += 1
            return self._predicted(rows, index - self._last).astype(self._dtype)
        output = network.step(tokens, prepared, modulation)
        factors = [output.astype(mx.float32)]
        for before in rows[: self._settings.max_order]:
            factors.append((factors[-1] - before) / (index - self._last))
        self._factors, self._last, self._dtype = factors, index, output.dtype
        return output

    def _computes(self, index: int) -> bool:
        settings = self._settings
        before, after = settings.disable_cache_before_step, settings.disable_cache_after_step
        return (
            index < before
            or (index - before - 1) % settings.cache_interval == 0
            or (after is not None and index >= after)
        )

    @staticmethod
    def _predicted(factors: list[mx.array], distance: int) -> mx.array:
        predicted = mx.zeros_like(factors[0])
        for order, factor in enumerate(factors):
            predicted = predicted + factor * (distance**order / math.factorial(order))
        return predicted
