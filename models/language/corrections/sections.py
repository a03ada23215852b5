"""Rotary embeddings over three axes (M-RoPE): a row of a picture has a time, a height and a width, by which different pairs
of channels turn. In text all three are equal, and a plain rotation does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.language.config.frequencies import Floats, Frequencies, UnknownRope, frequencies
from models.language.corrections.rope import RopeConfig, Rotary


@dataclass(frozen=True)
class Sections:
    """How many pairs of channels turn with each axis, if the configuration does not say; one after another or in turn."""

    default: tuple[int, int, int]
    interleaved: bool

    def axes(self, parameters: Mapping[str, Any], pairs: int) -> list[int]:
        """The axis of each pair of channels."""
        sections = parameters.get("mrope_section", list(self.default))
        whole = (
            isinstance(sections, list)
            and len(sections) == 3
            and all(type(n) is int and n >= 0 for n in sections)
        )
        if not whole or (sum(sections) != pairs and not self.interleaved):
            raise UnknownRope(
                f"mrope_section is {sections!r}; three whole numbers are needed, which add up to {pairs}, half of the head"
            )
        if not self.interleaved:
            return [axis for axis, count in enumerate(sections) for _ in range(count)]
        return [pair % 3 if pair < 3 * sections[pair % 3] else 0 for pair in range(pairs)]


@dataclass(eq=False)
class _Fed:
    """The positions [token, 3] of the tokens that are fed, and the turns they lead to: equal in all layers."""

    positions: mx.array
    turns: dict[bytes, tuple[mx.array, mx.array]] = field(default_factory=dict)


_fed: ContextVar[_Fed | None] = ContextVar("positions", default=None)


@contextmanager
def positions_of_rows(positions: mx.array | None) -> Iterator[None]:
    """While a network is called: where its tokens are, [token, 3], instead of the offsets of its caches."""
    token = _fed.set(None if positions is None else _Fed(positions))
    try:
        yield
    finally:
        _fed.reset(token)


class SectionedRotary(Rotary):
    def __init__(self, dims: int, values: Frequencies, axes: list[int]) -> None:
        super().__init__(dims, False, values)
        self._inverse: Floats = values.inverse
        self._axes = axes
        self._key = values.inverse.tobytes() + bytes(axes)

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        fed = _fed.get()
        if fed is None:
            return super().__call__(x, offset)
        if self._key not in fed.turns:
            fed.turns[self._key] = self._turns(fed.positions)
        cos, sin = (part.reshape(x.shape[0], 1, x.shape[2], -1) for part in fed.turns[self._key])
        turned, rest = x[..., : self.dims].astype(mx.float32), x[..., self.dims :]
        first, second = mx.split(turned, 2, axis=-1)
        parts = [first * cos - second * sin, second * cos + first * sin]
        return mx.concatenate([*(part.astype(x.dtype) for part in parts), rest], axis=-1)

    def _turns(self, positions: mx.array) -> tuple[mx.array, mx.array]:
        by_pair = positions[:, mx.array(self._axes)].astype(mx.float32)
        angles = by_pair * mx.array(self._inverse.astype(np.float32))
        return mx.cos(angles) * self.factor, mx.sin(angles) * self.factor


def use_sections(model: nn.Module, sections: Sections, config: RopeConfig) -> None:
    """Replace every rotary embedding of a network by one that takes positions over three axes."""
    for path, module in list(model.named_modules()):
        if "rope" not in module:
            continue
        parameters = config.of_layer(f"{path}.rope")
        if parameters is None:
            continue
        values = frequencies(parameters, module.rope.dims, config.positions)
        if values.long is not None:
            raise UnknownRope("rope_type 'longrope' is not supported with positions over three axes")
        module.rope = SectionedRotary(
            module.rope.dims, values, sections.axes(parameters, len(values.inverse))
        )
