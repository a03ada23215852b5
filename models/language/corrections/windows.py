"""Sliding windows for architectures of mlx-lm's that attend to everything, where a config.json says that they do not."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import KVCache, RotatingKVCache

SLIDING = "sliding_attention"


def slide(model: nn.Module, window: int | None, layer_types: list[str] | None) -> bool:
    """Give the layers their window, unless the architecture does so itself; whether any has one now.

    transformers gives each layer a type, or all of them the window. A network says by `slides_by_config` that its own
    idea of windows is to be replaced.
    """
    blocks = model.layers
    sliding = [kind == SLIDING for kind in layer_types or [SLIDING] * len(blocks)]
    itself = hasattr(model, "make_cache") and not getattr(model, "slides_by_config", False)
    if itself or not window or len(sliding) != len(blocks):
        return False
    if not any(sliding) and not hasattr(model, "make_cache"):
        return False
    for block, slides in zip(blocks, sliding, strict=True):
        block.__class__ = _masked(type(block), window if slides else None)

    def make_cache() -> list[KVCache | RotatingKVCache]:
        return [RotatingKVCache(max_size=window) if slides else KVCache() for slides in sliding]

    model.make_cache = make_cache
    return True


def _masked(block: type[nn.Module], window: int | None) -> type[nn.Module]:
    """A layer that replaces the mask which all layers share, made for the first of them, by its own."""

    class Masked(block):  # type: ignore[misc, valid-type]
        def __call__(self, x: mx.array, mask: Any = None, cache: Any = None, *others: Any) -> Any:
            whole = isinstance(mask, mx.array)
            own = create_attention_mask(x, cache, window_size=window, return_array=whole)
            return super().__call__(x, own, cache, *others)

    Masked.__name__ = Masked.__qualname__ = block.__name__
    return Masked
