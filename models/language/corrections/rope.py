"""Replaces rotary embeddings of mlx-lm's whose frequencies differ from config.json.

mlx-lm's architectures differ in which types of `rope_parameters` they support. After a network has been created, the
frequencies of each of its rotary embeddings are compared with those of the configuration.
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
TOLERANCE = 1e-4

# Lengths of the whole prompts during prefill, [rows], which chunks alone do not show. None while decoding.
_lengths: ContextVar[mx.array | None] = ContextVar("lengths", default=None)


@contextmanager
def prompt_lengths(lengths: list[int]) -> Iterator[None]:
    """While chunks of prompts are fed: lets every chunk use the frequencies for the length of its whole prompt."""
    token = _lengths.set(mx.array(lengths))
    try:
        yield
    finally:
        _lengths.reset(token)


class Rotary(nn.Module):
    """Rotates by the given frequencies, with the interface of mlx-lm's rotary embeddings."""

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
    """Uses other frequencies for texts beyond a length, row by row."""

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
    """The length beyond which a model uses other frequencies for a whole text; None for most models."""
    limits = [module.limit for _, module in model.named_modules() if isinstance(module, LengthRotary)]
    return min(limits, default=None)


@dataclass(frozen=True)
class RopeConfig:
    """The rotary parameters of a config.json: for all layers, or per layer type."""

    parameters: Mapping[str, Any]
    layer_types: list[str] | None
    positions: int
    head_dim: int | None

    def of_layer(self, path: str) -> Mapping[str, Any] | None:
        if not is_per_layer(self.parameters):
            return self.parameters
        number = re.search(r"\blayers\.(\d+)\.", path)
        index = int(number.group(1)) if number else -1
        if self.layer_types is None or not 0 <= index < len(self.layer_types):
            return None
        parameters = self.parameters.get(self.layer_types[index])
        return parameters if isinstance(parameters, Mapping) else None

    def rotated_channels(self, parameters: Mapping[str, Any], created_for: int) -> int:
        """How many channels of a head are rotated, given that the rotary embedding was created for `created_for`."""
        fraction = parameters.get("partial_rotary_factor")
        if fraction is None or created_for != self.head_dim or rope_type(parameters) == "proportional":
            return created_for
        return int(created_for * fraction)


def correct_rotations(model: nn.Module, config: RopeConfig) -> list[str]:
    """Replace rotary embeddings that differ from the configuration; returns their paths."""
    replaced: list[str] = []
    for path, module in list(model.named_modules()):
        for name, child in list(module.items()):
            child_path = f"{path}.{name}" if path else name
            if not _is_rotary(child):
                continue
            parameters = config.of_layer(child_path)
            if parameters is None:
                continue
            created_for = _dims(child)
            dims = config.rotated_channels(parameters, created_for)
            values = frequencies(parameters, dims, config.positions)
            if dims != created_for or not _matches(child, values):
                rotary = Rotary if values.long is None else LengthRotary
                module[name] = rotary(dims, _is_interleaved(child), values)
                replaced.append(child_path)
    return replaced


def _is_rotary(module: Any) -> bool:
    return isinstance(module, ROTARY_CLASSES) or (isinstance(module, nn.Module) and hasattr(module, "_freqs"))


def _is_interleaved(module: nn.Module) -> bool:
    """Whether adjacent channels form a pair, instead of channels of the two halves of a head."""
    return bool(getattr(module, "traditional", type(module).__name__ not in HALVES))


def _dims(module: nn.Module) -> int:
    """DeepSeek V2's own class has no attribute for it; it rotates adjacent channels."""
    dims = getattr(module, "dims", None) or getattr(module, "dim", None)
    return int(dims or 2 * module._freqs.size)


def _matches(module: nn.Module, values: Frequencies) -> bool:
    if values.long is not None:
        return False
    inverse, factor = _effective(module)
    same = inverse.shape == values.inverse.shape and np.allclose(
        inverse, values.inverse, rtol=TOLERANCE, atol=0
    )
    return bool(same and abs(factor - values.factor) < TOLERANCE)


def _effective(module: nn.Module) -> tuple[Floats, float]:
    """The radians per position and the factor that a rotary embedding of mlx-lm's applies."""
    if isinstance(module, nn.RoPE):
        exponents = np.arange(0, module.dims, 2, dtype=np.float64) / module.dims
        return float(module.scale) * float(module.base) ** -exponents, 1.0
    if isinstance(module, rope_utils.DynamicNTKScalingRoPE):
        return np.empty(0), 1.0  # does not support batches: always replaced
    periods = np.array(module._freqs.astype(mx.float32), dtype=np.float64)
    return 1.0 / periods, float(getattr(module, "mscale", getattr(module, "_scale", 1.0)))


def _periods(inverse: Floats) -> mx.array:
    with np.errstate(divide="ignore"):
        return mx.array((1.0 / inverse).astype(np.float32))


ROTARY_CLASSES = (
    nn.RoPE,
    rope_utils.SuScaledRoPE,
    rope_utils.Llama3RoPE,
    rope_utils.YarnRoPE,
    rope_utils.ProportionalRoPE,
    rope_utils.DynamicNTKScalingRoPE,
)
# Classes without an attribute `traditional` that pair the two halves; DeepSeek V2's, also without, pairs adjacent channels.
HALVES = ("SuScaledRoPE", "DynamicNTKAlphaRoPE")
