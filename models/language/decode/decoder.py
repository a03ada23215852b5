"""Decoding on NVIDIA cards: a whole step of one token per row, compiled, with half the kernels.

    decoder = Decoder.of(model, new_cache())    # None if the model is not supported
    decoder.join(cache, rows)                   # rows after prefill
    logits = decoder.logits(tokens)             # [row, vocabulary]; appends one token to each cache

Supports Llama, Qwen 2, Qwen 3 and models that use their architectures, in half precision or quantized, with plain
key-value caches, whole or sharded; mlx-lm computes everything else. Projections with the same input are fused into one
array, and mlx-lm's layers become views of it, so prefill works as before.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.rope_utils import Llama3RoPE

from models.kernels.checked import HALVES, report
from models.kernels.gpu import on_cuda, ours_compile
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.decode import kernels, reference_ops
from models.language.decode.fused_projections import (
    Weights,
    can_fuse,
    fuse,
    group_of,
    is_head,
    product,
    weights,
)
from models.language.decode.reference_ops import Columns, HeadLayout
from models.language.decode.slots import Slots

FAMILIES = frozenset(f"mlx_lm.models.{name}" for name in ("llama", "qwen2", "qwen3"))
# Limited by shared memory, in which the attention kernel keeps partial sums of a key head: group x channels.
LARGEST_GROUP = 1280
# For trial steps: kernels and plain operations round to half precision at different places in all layers.
TRIAL_TOKENS, LARGEST_DIFFERENCE = 3, 0.1


@dataclass(frozen=True)
class Layer:
    """The weights of a layer, in the layout of the kernels."""

    norm_in: mx.array
    qkv: Weights
    layout: HeadLayout
    out: Weights
    norm_mlp: mx.array
    gate_up: Weights
    down: Weights


class Decoder:
    """Implements DecodeBackend by kernels of our own."""

    def __init__(self, model: Any, ops: ModuleType = kernels) -> None:
        self._ops = ops
        self._embed = model.model.embed_tokens
        head = getattr(model, "lm_head", None)
        self._vocabulary = weights(self._embed if head is None else head)
        self._norm = model.model.norm.weight
        self._eps = float(model.model.norm.eps)
        self._layers = [layer_of(block) for block in model.model.layers]
        attention = model.model.layers[0].self_attn
        self._scale = float(attention.scale)
        self._group = group_of(attention.o_proj)
        self._step = mx.compile(self._computed)
        size = self._layers[0].layout.size
        self._slots = Slots(len(self._layers), attention.n_kv_heads, size, self._norm.dtype)

    @classmethod
    def of(cls, model: nn.Module, cache: Cache) -> "Decoder | None":
        """A decoder, if the model and its caches are supported and the device is an NVIDIA card."""
        if not (kv_cache.plain(cache) and on_cuda() and is_supported(model)):
            return None
        ours_compile()  # runs a kernel to find out, which cannot happen while a step is traced
        decoder = cls(model)
        return decoder if decoder.works(cache) else None

    def works(self, empty: Cache) -> bool:
        """Whether trial steps give the right logits, on all devices that hold a share. Compiles the kernels of a step."""
        # Without the group, so that no device waits for one that fails.
        group, self._group = self._group, None
        try:
            difference = self._difference(empty)
            works = difference <= LARGEST_DIFFERENCE
            if not works:
                report(
                    f"decoding by mlx-lm: the logits of our kernels differ by {100 * difference:.0f}% of the largest from "
                    "plain operations"
                )
        except Exception as error:
            report(f"decoding by mlx-lm: {error}")
            works = False
        finally:
            self.clear()
        if group is None:
            return works
        self._group, self._step = group, mx.compile(self._computed)
        return bool(mx.distributed.all_sum(mx.array(int(works)), group=group).item() == group.size())

    def _difference(self, empty: Cache) -> float:
        """The largest difference between logits by our kernels and by plain operations, relative to the largest logit."""
        ours = self._trial(empty)
        ops, step = self._ops, self._step
        self._ops, self._step = reference_ops, self._computed
        try:
            plain = self._trial(empty)
        finally:
            self._ops, self._step = ops, step
        largest = cast(float, mx.abs(plain).max().item())
        if not math.isfinite(largest):  # corrupt weights: requests will report that
            return 0.0
        difference = cast(float, mx.abs(ours - plain).max().item()) / max(largest, 1e-6)
        return difference if math.isfinite(difference) else math.inf

    def _trial(self, empty: Cache) -> mx.array:
        self.clear()
        self.join(empty, 1)
        logits = []
        for token in range(TRIAL_TOKENS):
            logits.append(self.logits(mx.array([token], mx.uint32)))
            mx.eval(logits)  # nothing else orders the steps: the tokens do not depend on earlier logits
        return mx.concatenate(logits).astype(mx.float32)

    def another(self) -> "Decoder":
        """One of the same weights and the same compiled step, without rows."""
        other = copy.copy(self)
        other._slots = self._slots.another()
        return other

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
        padded = mx.pad(tokens, (0, free)) if free else tokens
        logits, ends, *caches = self._step(padded, slots.columns, slots.keys, slots.values)
        slots.advance(ends, caches[: len(self._layers)], caches[len(self._layers) :])
        return logits[:rows] if free else logits

    def _computed(
        self, tokens: mx.array, columns: Columns, keys: Sequence[mx.array], values: Sequence[mx.array]
    ) -> list[mx.array]:
        ops, (slots,), (_, kv_heads, length, _) = self._ops, tokens.shape, keys[0].shape
        splits = ops.splits(slots, kv_heads, length)
        h = self._embed(tokens)
        normed = mx.fast.rms_norm(h, self._layers[0].norm_in, self._eps)
        next_norms = [*(layer.norm_in for layer in self._layers[1:]), self._norm]
        new_keys, new_values = [], []
        for layer, k, v, next_norm in zip(self._layers, keys, values, next_norms, strict=True):
            q, k, v = ops.heads(product(ops, normed, layer.qkv), layer.layout, k, v, columns)
            new_keys.append(k)
            new_values.append(v)
            attended = ops.attention(q, k, v, columns, splits, self._scale).reshape(slots, -1)
            out = self._all_sum(product(ops, attended, layer.out))
            h, normed = ops.sum_and_norm(h, out, layer.norm_mlp, self._eps)
            inner = product(ops, normed, layer.gate_up, gated=True)
            down = self._all_sum(product(ops, inner, layer.down))
            h, normed = ops.sum_and_norm(h, down, next_norm, self._eps)
        logits = product(ops, normed, self._vocabulary)
        return [logits, mx.minimum(columns.ends + 1, length - 1), *new_keys, *new_values]

    def _all_sum(self, x: mx.array) -> mx.array:
        """The sum over all devices."""
        return x if self._group is None else mx.distributed.all_sum(x, group=self._group)


def is_supported(model: Any) -> bool:
    """Whether `Decoder` computes the same as the model: checks its class and everything its config can change."""
    base = next((cls for cls in type(model).__mro__ if cls.__module__.startswith("mlx_lm.")), None)
    if base is None or base.__module__ not in FAMILIES:
        return False
    arrays = [array for _, array in _parameters(model)]
    dtypes = {array.dtype for array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    if len(dtypes) > 1 or not dtypes.issubset(HALVES):  # kernels work on a single type
        return False
    embed, head = model.model.embed_tokens, getattr(model, "lm_head", None)
    if not (is_head(embed) and is_head(embed if head is None else head)):
        return False
    return all(map(_is_supported_layer, model.model.layers))


def _is_supported_layer(block: Any) -> bool:
    attention, mlp = block.self_attn, block.mlp
    qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
    others = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if getattr(block, "use_sliding", False) or not all(
        map(can_fuse, (qkv, others[:1], others[1:3], others[3:]))
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
    """The radians per position of each pair of channels; None for other kinds of rotary embeddings."""
    if getattr(rope, "traditional", True) or getattr(rope, "dims", None) != size:
        return None
    if type(rope) is nn.RoPE:
        exponents = mx.arange(0, size, 2, dtype=mx.float32) / size
        return float(rope.scale) * mx.power(mx.array(float(rope.base)), -exponents)
    return 1.0 / rope._freqs.astype(mx.float32) if type(rope) is Llama3RoPE else None


def layer_of(block: Any) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
    size = attention.q_proj.weight.shape[0] // attention.n_heads
    inv_freq = _inv_freq(attention.rope, size)
    if inv_freq is None:
        raise ValueError(f"rotary embeddings of the class {type(attention.rope).__name__} are not supported")
    q_norm, k_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    bias = mx.concatenate([layer.bias for layer in qkv]) if "bias" in qkv[0] else None
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
        fuse(qkv),
        layout,
        weights(attention.o_proj),
        block.post_attention_layernorm.weight,
        fuse([mlp.gate_proj, mlp.up_proj]),
        weights(mlp.down_proj),
    )
