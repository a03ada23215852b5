"""Sliding-window attention for mlx-lm's architectures that ignore the sliding window in config.json."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import KVCache, RotatingKVCache

SLIDING = "sliding_attention"


def use_sliding_windows(model: nn.Module, window: int | None, layer_types: list[str] | None) -> bool:
    """Give layers their window, unless the architecture does so itself; returns whether any layer got one.

    transformers gives each layer a type, or all layers the window. A network with `slides_by_config` has its own windows
    replaced.
    """
    blocks = model.layers
    sliding = [kind == SLIDING for kind in layer_types or [SLIDING] * len(blocks)]
    own_windows = hasattr(model, "make_cache") and not getattr(model, "slides_by_config", False)
    if own_windows or not window or len(sliding) != len(blocks):
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
    """A layer that replaces the mask shared by all layers, which was made for the first one, with its own."""

    class Masked(block):  # type: ignore[misc, valid-type]
        def __call__(self, x: mx.array, mask: Any = None, cache: Any = None, *args: Any) -> Any:
            as_array = isinstance(mask, mx.array)
            own_mask = create_attention_mask(x, cache, window_size=window, return_array=as_array)
            return super().__call__(x, own_mask, cache, *args)

    Masked.__name__ = Masked.__qualname__ = block.__name__
    return Masked
