"""Rotary embeddings held to config.json: mlx-lm's where they agree with it, ours where they do not.

mlx-lm's architectures differ in which types of `rope_parameters` they look at. After a network is made, the frequencies
of each rotation in it are compared with those that its configuration means.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import rope_utils

from models.language.config.frequencies import Floats, Frequencies, frequencies
from models.language.config.rope import is_per_layer, rope_type

# Relative: mlx-lm computes frequencies in float32.
ALIKE = 1e-4

# How long the prompts are that are being read, [rows]: chunks of them do not tell. None while texts are written.
_lengths: ContextVar[mx.array | None] = ContextVar("lengths", default=None)


@contextmanager
def reading(lengths: list[int]) -> Iterator[None]:
    """While chunks of prompts of these lengths are read: what depends on a text's length knows it from the first on."""
    token = _lengths.set(mx.array(lengths))
    try:
        yield
    finally:
        _lengths.reset(token)


class Rotary(nn.Module):
    """Rotates by given frequencies; called as mlx-lm's rotations are."""

    def __init__(self, dims: int, traditional: bool, values: Frequencies) -> None:
        super().__init__()
        self.dims = dims
        self.traditional = traditional
        self.factor = values.factor
        self._freqs = _periods(values.inverse)

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        return self._rotate(x, offset, self._freqs, self.factor)

    def _rotate(self, x: mx.array, offset: int | mx.array, freqs: mx.array, factor: float) -> mx.array:
        if factor != 1.0:
            x = x.at[..., : self.dims].multiply(factor)
        return mx.fast.rope(
            x, self.dims, traditional=self.traditional, base=None, scale=1.0, offset=offset, freqs=freqs
        )


class LengthRotary(Rotary):
    """Other frequencies in texts beyond a length: each row by its own."""

    def __init__(self, dims: int, traditional: bool, values: Frequencies) -> None:
        super().__init__(dims, traditional, values)
        self.limit = values.limit or 0
        self.long_factor = values.long_factor
        self._long = _periods(values.inverse if values.long is None else values.long)

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        lengths = _lengths.get()
        long = (mx.array(offset) + x.shape[-2] if lengths is None else lengths) > self.limit
        short_rows = self._rotate(x, offset, self._freqs, self.factor)
        long_rows = self._rotate(x, offset, self._long, self.long_factor)
        return mx.where(long.reshape(-1, *[1] * (x.ndim - 1)), long_rows, short_rows)


def switching_length(model: nn.Module) -> int | None:
    """The length beyond which a model rotates all of a text differently; None for most models."""
    limits = [module.limit for _, module in model.named_modules() if isinstance(module, LengthRotary)]
    return min(limits, default=None)


@dataclass(frozen=True)
class RopeConfig:
    """What a config.json says of rotations: parameters for all layers, or for each type of layer."""

    parameters: Mapping[str, Any]
    layer_types: list[str] | None
    positions: int
    head_dim: int | None

    def of_layer(self, place: str) -> Mapping[str, Any] | None:
        if not is_per_layer(self.parameters):
            return self.parameters
        number = re.search(r"\blayers\.(\d+)\.", place)
        index = int(number.group(1)) if number else -1
        if self.layer_types is None or not 0 <= index < len(self.layer_types):
            return None
        own = self.parameters.get(self.layer_types[index])
        return own if isinstance(own, Mapping) else None

    def channels(self, parameters: Mapping[str, Any], own: int) -> int:
        """How many channels of a head are rotated, where a rotation was made for `own`."""
        share = parameters.get("partial_rotary_factor")
        if share is None or own != self.head_dim or rope_type(parameters) == "proportional":
            return own
        return int(own * share)


def correct_rotations(model: nn.Module, config: RopeConfig) -> list[str]:
    """Replace the rotations that differ from a configuration; the paths of those."""
    replaced: list[str] = []
    for path, module in list(model.named_modules()):
        for name, child in list(module.items()):
            place = f"{path}.{name}" if path else name
            if not _is_rotation(child):
                continue
            parameters = config.of_layer(place)
            if parameters is None:
                continue
            made_for = _dims(child)
            dims = config.channels(parameters, made_for)
            values = frequencies(parameters, dims, config.positions)
            if dims != made_for or not _alike(child, values):
                kind = Rotary if values.long is None else LengthRotary
                module[name] = kind(dims, _neighbours(child), values)
                replaced.append(place)
    return replaced


def _is_rotation(module: Any) -> bool:
    return isinstance(module, KINDS) or (isinstance(module, nn.Module) and hasattr(module, "_freqs"))


def _neighbours(module: nn.Module) -> bool:
    """Whether neighbouring channels are a pair, in place of the two halves of a head."""
    return bool(getattr(module, "traditional", type(module).__name__ not in HALVES))


def _dims(module: nn.Module) -> int:
    """DeepSeek V2's own class has no attribute for it, and rotates neighbours."""
    dims = getattr(module, "dims", None) or getattr(module, "dim", None)
    return int(dims or 2 * module._freqs.size)


def _alike(module: nn.Module, values: Frequencies) -> bool:
    if values.long is not None:
        return False
    inverse, factor = _effective(module)
    same = inverse.shape == values.inverse.shape and np.allclose(inverse, values.inverse, rtol=ALIKE, atol=0)
    return bool(same and abs(factor - values.factor) < ALIKE)


def _effective(module: nn.Module) -> tuple[Floats, float]:
    """What a rotation of mlx-lm's comes to: radians a position, and the factor."""
    if isinstance(module, nn.RoPE):
        exponents = np.arange(0, module.dims, 2, dtype=np.float64) / module.dims
        return float(module.scale) * float(module.base) ** -exponents, 1.0
    if isinstance(module, rope_utils.DynamicNTKScalingRoPE):
        return np.empty(0), 1.0  # cannot be called for a batch: always replaced
    periods = np.array(module._freqs.astype(mx.float32), dtype=np.float64)
    return 1.0 / periods, float(getattr(module, "mscale", getattr(module, "_scale", 1.0)))


def _periods(inverse: Floats) -> mx.array:
    with np.errstate(divide="ignore"):
        return mx.array((1.0 / inverse).astype(np.float32))


KINDS = (
    nn.RoPE,
    rope_utils.SuScaledRoPE,
    rope_utils.Llama3RoPE,
    rope_utils.YarnRoPE,
    rope_utils.ProportionalRoPE,
    rope_utils.DynamicNTKScalingRoPE,
)
# Classes that have no attribute for it and rotate halves; DeepSeek V2's has none and rotates neighbours.
HALVES = ("SuScaledRoPE", "DynamicNTKAlphaRoPE")
