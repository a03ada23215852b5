"""Decoding on NVIDIA cards: a whole step of one token a row, compiled, in a third of the kernels and less of the processor.

    decoder = Decoder.of(model)                 # None: not a model whose arithmetic is known here
    logits = decoder(tokens, cache)             # [row, vocabulary], and the caches have one token more

For Llama, Qwen 2, Qwen 3 and those that say they are one of them, in half precision, with plain key-value caches; everything
else is mlx-lm's. Projections that read the same are made one array; mlx-lm's layers are given views of it, so prompts
are read as before. The caches are copied when rows come or go, and then written to in place, which is why nobody else
may hold the same arrays: what reads them in the meantime reads columns that are not written again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import cache as mlx_cache
from mlx_lm.models import llama, qwen2, qwen3
from mlx_lm.models.rope_utils import Llama3RoPE

from models.fused import on_cuda
from models.language import kernels
from models.language.caches import Cache
from models.language.pieces import Columns, HeadLayout

FAMILIES: tuple[type[nn.Module], ...] = (llama.Model, qwen2.Model, qwen3.Model)
HALVES = (mx.bfloat16, mx.float16)
GROWTH = 256  # columns that caches grow by
# Of shared memory, which the attention kernel keeps a head's partial sums in: group x channels.
LARGEST_GROUP = 1280


@dataclass(frozen=True)
class Layer:
    """A block's weights, as the kernels take them."""

    norm_in: mx.array
    qkv: mx.array
    layout: HeadLayout
    out: mx.array
    norm_mlp: mx.array
    gate_up: mx.array
    down: mx.array


@dataclass
class Held:
    """The caches that are being written to."""

    keys: list[mx.array]
    values: list[mx.array]
    columns: Columns
    end: int

    def is_of(self, cache: Cache) -> bool:
        return len(cache) == len(self.keys) and all(
            layer.keys is keys and layer.values is values
            for layer, keys, values in zip(cache, self.keys, self.values, strict=True)
        )


class Decoder:
    def __init__(self, model: Any, parts: ModuleType = kernels) -> None:
        self._parts = parts
        self._embed = model.model.embed_tokens.weight
        tied = getattr(model, "lm_head", None) is None
        self._vocabulary = self._embed if tied else model.lm_head.weight
        self._norm = model.model.norm.weight
        self._eps = float(model.model.norm.eps)
        self._layers = [_layer(block) for block in model.model.layers]
        self._scale = float(model.model.layers[0].self_attn.scale)
        self._step = mx.compile(self._computed)
        self._held: Held | None = None

    @classmethod
    def of(cls, model: nn.Module) -> "Decoder | None":
        """A decoder, where the model is one of those known and computes on a card."""
        return cls(model) if on_cuda() and known(model) else None

    def takes(self, cache: Cache) -> bool:
        """Whether these are plain caches, and hold something."""
        plain = (mlx_cache.KVCache, mlx_cache.BatchKVCache)
        return all(type(layer) in plain and layer.keys is not None for layer in cache)

    def __call__(self, tokens: mx.array, cache: Cache) -> mx.array:
        held = self._held
        if held is None or not held.is_of(cache) or held.end >= held.keys[0].shape[2]:
            held = self._held = self._taken(cache)
        logits, positions, end, *caches = self._step(tokens, held.columns, held.keys, held.values)
        count = len(cache)
        held.keys, held.values = caches[:count], caches[count:]
        held.columns = Columns(positions, held.columns.starts, end)
        held.end += 1
        for layer, keys, values in zip(cache, held.keys, held.values, strict=True):
            layer.keys, layer.values = keys, values
            if isinstance(layer, mlx_cache.BatchKVCache):
                layer._idx, layer.offset = held.end, positions
            else:
                layer.offset = held.end
        return logits

    def forget(self) -> None:
        """Let go of the caches of a batch that has ended."""
        self._held = None

    def _taken(self, cache: Cache) -> Held:
        """Copies of the caches with room for more, which belong to nobody else."""
        self._held = None
        first = cache[0]
        if isinstance(first, mlx_cache.BatchKVCache):
            end, positions, starts = first._idx, first.offset, first.left_padding
        else:
            end = first.offset
            positions, starts = mx.array([end], dtype=mx.int32), mx.array([0], dtype=mx.int32)
        room = (end // GROWTH + 1) * GROWTH
        keys = [_roomy(layer.keys, end, room) for layer in cache]
        values = [_roomy(layer.values, end, room) for layer in cache]
        columns = Columns(
            positions.astype(mx.int32), starts.astype(mx.int32), mx.array([end], dtype=mx.int32)
        )
        mx.eval(keys, values, columns)
        return Held(keys, values, columns, end)

    def _computed(
        self, tokens: mx.array, columns: Columns, keys: Sequence[mx.array], values: Sequence[mx.array]
    ) -> list[mx.array]:
        parts, (rows,) = self._parts, tokens.shape
        splits = parts.splits(rows, keys[0].shape[1], keys[0].shape[2])
        h = self._embed[tokens]
        normed = mx.fast.rms_norm(h, self._layers[0].norm_in, self._eps)
        following = [*(layer.norm_in for layer in self._layers[1:]), self._norm]
        written: tuple[list[mx.array], list[mx.array]] = ([], [])
        for layer, k, v, norm in zip(self._layers, keys, values, following, strict=True):
            q, k, v = parts.heads(parts.product(normed, layer.qkv), layer.layout, k, v, columns)
            written[0].append(k)
            written[1].append(v)
            seen = parts.attention(q, k, v, columns, splits, self._scale).reshape(rows, -1)
            h, normed = parts.sum_and_norm(h, parts.product(seen, layer.out), layer.norm_mlp, self._eps)
            mixed = parts.product(parts.product(normed, layer.gate_up, gated=True), layer.down)
            h, normed = parts.sum_and_norm(h, mixed, norm, self._eps)
        logits = parts.product(normed, self._vocabulary)
        return [logits, columns.positions + 1, columns.end + 1, *written[0], *written[1]]


def known(model: Any) -> bool:
    """Whether the model computes what `Decoder` does: its class, and all that its config can change about it."""
    own = next((kind for kind in type(model).__mro__ if kind.__module__.startswith("mlx_lm.")), None)
    if own not in FAMILIES:
        return False
    head = getattr(model, "lm_head", None)
    if head is not None and (type(head) is not nn.Linear or "bias" in head):
        return False
    return type(model.model.embed_tokens) is nn.Embedding and all(map(_known, model.model.layers))


def _known(block: Any) -> bool:
    attention, mlp = block.self_attn, block.mlp
    inward = [attention.q_proj, attention.k_proj, attention.v_proj]
    others = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if getattr(block, "use_sliding", False) or any(type(layer) is not nn.Linear for layer in inward + others):
        return False
    if any("bias" in layer for layer in others) or len({"bias" in layer for layer in inward}) > 1:
        return False
    size = attention.q_proj.weight.shape[0] // attention.n_heads
    group = attention.n_heads // attention.n_kv_heads
    half = all(layer.weight.dtype == inward[0].weight.dtype for layer in inward + others)
    return bool(
        half
        and inward[0].weight.dtype in HALVES
        and size % 64 == 0
        and group * size <= LARGEST_GROUP
        and _turns(attention.rope, size) is not None
    )


def _turns(rope: Any, size: int) -> mx.array | None:
    """Radians that a pair of channels turns with each position; None where it is not as simple."""
    if getattr(rope, "traditional", True) or getattr(rope, "dims", None) != size:
        return None
    if type(rope) is nn.RoPE:
        exponents = mx.arange(0, size, 2, dtype=mx.float32) / size
        return float(rope.scale) * mx.power(mx.array(float(rope.base)), -exponents)
    return 1.0 / rope._freqs.astype(mx.float32) if type(rope) is Llama3RoPE else None


def _layer(block: Any) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    inward = [attention.q_proj, attention.k_proj, attention.v_proj]
    size = attention.q_proj.weight.shape[0] // attention.n_heads
    turns = _turns(attention.rope, size)
    if turns is None:
        raise ValueError(f"{type(attention.rope).__name__} is no rotation that is known here")
    q_norm, k_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    bias = mx.concatenate([layer.bias for layer in inward]) if "bias" in inward[0] else None
    layout = HeadLayout(
        size,
        turns,
        None if q_norm is None else q_norm.weight,
        None if k_norm is None else k_norm.weight,
        bias,
        float(q_norm.eps) if q_norm is not None else 0.0,
    )
    mx.eval(turns, bias)
    return Layer(
        block.input_layernorm.weight,
        _joined(inward),
        layout,
        attention.o_proj.weight,
        block.post_attention_layernorm.weight,
        _joined([mlp.gate_proj, mlp.up_proj]),
        mlp.down_proj.weight,
    )


def _joined(layers: Sequence[nn.Linear]) -> mx.array:
    """One array of several layers' weights, which become views of it."""
    joined = mx.concatenate([layer.weight for layer in layers])
    mx.eval(joined)
    start = 0
    for layer in layers:
        rows = layer.weight.shape[0]
        layer.weight = joined[start : start + rows]
        mx.eval(layer.weight)
        start += rows
    return joined


def _roomy(x: mx.array, end: int, room: int) -> mx.array:
    batch, heads, _, size = x.shape
    roomy = mx.zeros((batch, heads, room, size), x.dtype)
    roomy[:, :, :end] = x[:, :, :end]
    return roomy
