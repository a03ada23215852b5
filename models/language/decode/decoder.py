"""Decoding on NVIDIA cards: a whole step of one token a row, compiled, in half the kernels.

    decoder = Decoder.of(model, new_cache())    # None: not a model whose arithmetic is known here
    decoder.join(cache, rows)                   # whose prompts are read
    logits = decoder.logits(tokens)             # [row, vocabulary], and the caches have one token more

For Llama, Qwen 2, Qwen 3 and those that say they are one of them, in half precision or quantized, with plain key-value
caches, whole or a device's share of them; everything else is mlx-lm's. Projections that read the same are made one array;
mlx-lm's layers are given views of it, so prompts are read as before.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.rope_utils import Llama3RoPE

from models.kernels.checked import HALVES
from models.kernels.gpu import on_cuda, ours_compile
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.decode import kernels, reference_ops
from models.language.decode.fused_projections import (
    Weights,
    alike,
    group_of,
    joined,
    of_vocabulary,
    product,
    weights,
)
from models.language.decode.reference_ops import Columns, HeadLayout
from models.language.decode.slots import Slots

log = logging.getLogger("diptych.decoder")

FAMILIES = frozenset(f"mlx_lm.models.{name}" for name in ("llama", "qwen2", "qwen3"))
# Of shared memory, which the attention kernel keeps a head's partial sums in: group x channels.
LARGEST_GROUP = 1280
# Of a trial step: kernels and plain operations round half precision in other places, through all layers.
TRIAL_TOKENS, LARGEST_DIFFERENCE = 3, 0.1


@dataclass(frozen=True)
class Layer:
    """A block's weights, as the kernels take them."""

    norm_in: mx.array
    qkv: Weights
    layout: HeadLayout
    out: Weights
    norm_mlp: mx.array
    gate_up: Weights
    down: Weights


class Decoder:
    """Implements batch.DecodeBackend."""

    def __init__(self, model: Any, parts: ModuleType = kernels) -> None:
        self._parts = parts
        self._embed = model.model.embed_tokens
        head = getattr(model, "lm_head", None)
        self._vocabulary = weights(self._embed if head is None else head)
        self._norm = model.model.norm.weight
        self._eps = float(model.model.norm.eps)
        self._layers = [_layer(block) for block in model.model.layers]
        attention = model.model.layers[0].self_attn
        self._scale = float(attention.scale)
        self._group = group_of(attention.o_proj)
        self._step = mx.compile(self._computed)
        size = self._layers[0].layout.size
        self._slots = Slots(len(self._layers), attention.n_kv_heads, size, self._norm.dtype)

    @classmethod
    def of(cls, model: nn.Module, cache: Cache) -> "Decoder | None":
        """A decoder, where the model is one of those known, has such caches, and computes on a card."""
        if not (kv_cache.plain(cache) and on_cuda() and known(model)):
            return None
        ours_compile()  # is found out by running one, which a step that is traced cannot
        decoder = cls(model)
        return decoder if decoder.works(cache) else None

    def works(self, empty: Cache) -> bool:
        """Whether a step can be taken here, and on all devices that hold a share. Its kernels are compiled for it, as the
        first token would have them."""
        # Alone, so that a device that cannot leaves none of the others waiting.
        group, self._group = self._group, None
        try:
            difference = self._difference(empty)
            can = difference <= LARGEST_DIFFERENCE
            if not can:
                log.warning(
                    "decoding is left to mlx-lm: logits differ by %.0f%% of the largest from those of plain operations",
                    100 * difference,
                )
        except Exception as error:
            log.warning("decoding is left to mlx-lm: %s", error)
            can = False
        finally:
            self.clear()
        if group is None:
            return can
        self._group, self._step = group, mx.compile(self._computed)
        return bool(mx.distributed.all_sum(mx.array(int(can)), group=group).item() == group.size())

    def _difference(self, empty: Cache) -> float:
        """Of the logits of a few tokens by our kernels from those by plain operations, as a part of the largest."""
        ours = self._trial(empty)
        parts, step = self._parts, self._step
        self._parts, self._step = reference_ops, self._computed
        try:
            plain = self._trial(empty)
        finally:
            self._parts, self._step = parts, step
        largest = cast(float, mx.abs(plain).max().item())
        if not math.isfinite(largest):  # the weights are broken, which is told to those who ask
            return 0.0
        difference = cast(float, mx.abs(ours - plain).max().item()) / max(largest, 1e-6)
        return difference if math.isfinite(difference) else math.inf

    def _trial(self, empty: Cache) -> mx.array:
        self.clear()
        self.join(empty, 1)
        logits = []
        for token in range(TRIAL_TOKENS):
            logits.append(self.logits(mx.array([token], mx.uint32)))
            mx.eval(
                logits
            )  # nothing else puts the steps in order: these tokens do not come from the logits before
        return mx.concatenate(logits).astype(mx.float32)

    def join(self, cache: Cache, rows: int) -> None:
        self._slots.join(cache, rows)

    def keep(self, rows: Sequence[int]) -> None:
        self._slots.keep(rows)

    def extract(self, row: int) -> Cache:
        return self._slots.extract(row)

    def clear(self) -> None:
        self._slots.clear()

    def logits(self, tokens: mx.array) -> mx.array:
        slots, rows = self._slots, tokens.shape[0]
        slots.make_room()
        free = slots.count - rows
        given = mx.pad(tokens, (0, free)) if free else tokens
        logits, ends, *written = self._step(given, slots.columns, slots.keys, slots.values)
        slots.advance(ends, written[: len(self._layers)], written[len(self._layers) :])
        return logits[:rows] if free else logits

    def _computed(
        self, tokens: mx.array, columns: Columns, keys: Sequence[mx.array], values: Sequence[mx.array]
    ) -> list[mx.array]:
        parts, (slots,), (_, kv_heads, length, _) = self._parts, tokens.shape, keys[0].shape
        splits = parts.splits(slots, kv_heads, length)
        h = self._embed(tokens)
        normed = mx.fast.rms_norm(h, self._layers[0].norm_in, self._eps)
        following = [*(layer.norm_in for layer in self._layers[1:]), self._norm]
        written: tuple[list[mx.array], list[mx.array]] = ([], [])
        for layer, k, v, norm in zip(self._layers, keys, values, following, strict=True):
            q, k, v = parts.heads(product(parts, normed, layer.qkv), layer.layout, k, v, columns)
            written[0].append(k)
            written[1].append(v)
            seen = parts.attention(q, k, v, columns, splits, self._scale).reshape(slots, -1)
            out = self._summed(product(parts, seen, layer.out))
            h, normed = parts.sum_and_norm(h, out, layer.norm_mlp, self._eps)
            inner = product(parts, normed, layer.gate_up, gated=True)
            down = self._summed(product(parts, inner, layer.down))
            h, normed = parts.sum_and_norm(h, down, norm, self._eps)
        logits = product(parts, normed, self._vocabulary)
        return [logits, mx.minimum(columns.ends + 1, length - 1), *written[0], *written[1]]

    def _summed(self, part: mx.array) -> mx.array:
        """What all devices together computed."""
        return part if self._group is None else mx.distributed.all_sum(part, group=self._group)


def known(model: Any) -> bool:
    """Whether the model computes what `Decoder` does: its class, and all that its config can change about it."""
    own = next((kind for kind in type(model).__mro__ if kind.__module__.startswith("mlx_lm.")), None)
    if own is None or own.__module__ not in FAMILIES:
        return False
    arrays = [array for _, array in _parameters(model)]
    kinds = {array.dtype for array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    if len(kinds) > 1 or not kinds.issubset(HALVES):  # a kernel takes one type
        return False
    embed, head = model.model.embed_tokens, getattr(model, "lm_head", None)
    if not (of_vocabulary(embed) and of_vocabulary(embed if head is None else head)):
        return False
    return all(map(_known, model.model.layers))


def _known(block: Any) -> bool:
    attention, mlp = block.self_attn, block.mlp
    inward = [attention.q_proj, attention.k_proj, attention.v_proj]
    others = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if getattr(block, "use_sliding", False) or not all(
        map(alike, (inward, others[:1], others[1:3], others[3:]))
    ):
        return False
    if any("bias" in layer for layer in others):
        return False
    size = attention.q_proj.weight.shape[0] // attention.n_heads  # outputs, packed or not
    group = attention.n_heads // attention.n_kv_heads
    fits = size % 64 == 0 and group * size <= LARGEST_GROUP
    return bool(fits and _inv_freq(attention.rope, size) is not None)


def _parameters(model: nn.Module) -> list[tuple[str, mx.array]]:
    return tree_flatten(model.parameters())  # type: ignore[return-value]  # a list unless a destination is given


def _inv_freq(rope: Any, size: int) -> mx.array | None:
    """Radians that a pair of channels inv_freq with each position; None where it is not as simple."""
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
    inv_freq = _inv_freq(attention.rope, size)
    if inv_freq is None:
        raise ValueError(f"{type(attention.rope).__name__} is no rotation that is known here")
    q_norm, k_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    bias = mx.concatenate([layer.bias for layer in inward]) if "bias" in inward[0] else None
    layout = HeadLayout(
        size,
        inv_freq,
        None if q_norm is None else q_norm.weight,
        None if k_norm is None else k_norm.weight,
        bias,
        float(q_norm.eps) if q_norm is not None else 0.0,
    )
    mx.eval(inv_freq, bias)
    return Layer(
        block.input_layernorm.weight,
        joined(inward),
        layout,
        weights(attention.o_proj),
        block.post_attention_layernorm.weight,
        joined([mlp.gate_proj, mlp.up_proj]),
        weights(mlp.down_proj),
    )
