"""Frequencies of rotary embeddings for every type of `rope_parameters`, as transformers computes them. No MLX."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.language.config.rope import rope_type

Floats = NDArray[np.float64]


class UnknownRope(ValueError):
    """Incomplete parameters, or an unsupported type."""


@dataclass(frozen=True)
class Frequencies:
    """Radians per position for each pair of channels, and a factor for the rotated channels.

    `long` and `long_factor`, of models that have them, replace both in texts of more than `limit` tokens.
    """

    inverse: Floats
    factor: float = 1.0
    long: Floats | None = None
    limit: int | None = None
    long_factor: float = 1.0


def frequencies(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    """For `dims` rotated channels of a model with a context of `positions`."""
    kind = rope_type(parameters)
    if kind not in KINDS:
        raise UnknownRope(f"rope_type {kind!r} is not supported; supported are {', '.join(KINDS)}")
    try:
        with np.errstate(all="raise"):
            return KINDS[kind](parameters, dims, positions)
    except KeyError as error:
        raise UnknownRope(f"rope_parameters with rope_type {kind!r} need {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UnknownRope(f"rope_parameters with rope_type {kind!r} cannot be used: {error}") from error


def _default(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    exponents = np.arange(0, dims, 2, dtype=np.float64) / dims
    return Frequencies(float(parameters.get("rope_theta") or 10_000.0) ** -exponents)


def _dynamic(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    """Only differs beyond max_position_embeddings, which no text reaches here; HunYuan's `alpha` applies everywhere."""
    alpha = parameters.get("alpha")
    if not alpha:
        return _default(parameters, dims, positions)
    base = float(parameters["rope_theta"]) * alpha ** (dims / (dims - 2))
    return _default({"rope_theta": base}, dims, positions)


def _linear(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    return Frequencies(_default(parameters, dims, positions).inverse / parameters["factor"])


def _llama3(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    plain = _default(parameters, dims, positions).inverse
    factor, low, high = (parameters[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = parameters["original_max_position_embeddings"]
    rotations = trained * plain / (2 * math.pi)  # of each pair of channels over the training length
    smooth = np.clip((rotations - low) / (high - low), 0, 1)
    return Frequencies(plain * (smooth + (1 - smooth) / factor))


def _yarn(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    base = float(parameters["rope_theta"])
    trained = parameters.get("original_max_position_embeddings") or positions
    factor = parameters.get("factor") or positions / trained
    plain = _default(parameters, dims, positions).inverse

    def channel(rotations: float) -> float:
        return dims * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = channel(parameters.get("beta_fast") or 32), channel(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    ramp = np.clip((np.arange(dims // 2) - low) / (high - low or 0.001), 0, 1)
    return Frequencies(plain / factor * ramp + plain * (1 - ramp), _yarn_factor(parameters, factor))


def _yarn_factor(parameters: Mapping[str, Any], factor: float) -> float:
    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if parameters.get("attention_factor") is not None:
        return float(parameters["attention_factor"])
    one, all_dims = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(one) / scale(all_dims) if one and all_dims else scale(1.0)


def _longrope(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    trained = parameters["original_max_position_embeddings"]
    plain = _default(parameters, dims, positions).inverse
    short, long = (
        plain / np.asarray(parameters[key], dtype=np.float64) for key in ("short_factor", "long_factor")
    )
    stretch = parameters.get("factor") or positions / trained
    factor = parameters.get("attention_factor")
    if factor is None:
        factor = math.sqrt(1 + math.log(stretch) / math.log(trained)) if stretch > 1 else 1.0
    factors = (parameters.get(f"{length}_mscale") or factor for length in ("short", "long"))
    short_factor, long_factor = map(float, factors)
    return Frequencies(short, short_factor, long, int(trained), long_factor)


def _proportional(parameters: Mapping[str, Any], dims: int, positions: int) -> Frequencies:
    """Exponents count all channels of a head; channels that are not rotated get frequency 0."""
    rotated = int(parameters.get("partial_rotary_factor", 1.0) * dims // 2)
    plain = _default(parameters, dims, positions).inverse / parameters.get("factor", 1.0)
    return Frequencies(np.where(np.arange(dims // 2) < rotated, plain, 0.0))


Kind = Callable[[Mapping[str, Any], int, int], Frequencies]
KINDS: Mapping[str, Kind] = {
    "default": _default,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "proportional": _proportional,
}
