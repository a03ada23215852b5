"""Decoding on NVIDIA cards: a whole step of one token per row, compiled, with half the kernels.

    decoder = Decoder.of(model, pool)                   # None if the model is not supported
    logits = decoder.logits(tokens, tables, ends, pool)      # [row, vocabulary]

A row is one token: its text's blocks, and its position in the text. Several tokens of a text are rows with the same blocks and
successive positions: all keys of a layer are written before its attention reads any. The step writes to the pool in place.
Projections with the same input are fused into one array, and mlx-lm's layers become views of it, so prefill works as before.
"""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, TypeAlias, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.adapters.layers import AdaptedLinear
from models.kernels.checked import report
from models.kernels.gpu import on_cuda, ours_compile
from models.language.decode import kernels, reference_ops
from models.language.decode.fused_projections import Weights, group_of, normed_product, product, weights
from models.language.decode.layers import is_supported, layer_of, text_network
from models.language.decode.reference_ops import Places

Ints: TypeAlias = NDArray[np.int32]

TRIAL_TOKENS = 3
FEWEST_BLOCKS = 32  # tables are padded to this, or to four, sixteen, … times as many
GROUP = 64  # of quantized keys and values
# The largest difference of logits in a trial, by bits: a key that is rounded to the other of two neighbours counts more the
# fewer there are. Of two independent results it is above 1.
LARGEST_DIFFERENCE = {0: 0.1, 8: 0.1, 4: 0.4}


class Pool(Protocol):
    """Keys and values of each layer: one array [block, head, token, channel], or three of a quantized pool."""

    keys: list[list[mx.array]]
    values: list[list[mx.array]]


@dataclass
class TrialPool:
    """A few blocks of the same shape as those of a pool."""

    keys: list[list[mx.array]]
    values: list[list[mx.array]]

    @classmethod
    def like(cls, pool: Pool, blocks: int) -> "TrialPool":
        def blank(layers: list[list[mx.array]]) -> list[list[mx.array]]:
            return [[mx.zeros((blocks, *x.shape[1:]), x.dtype) for x in layer] for layer in layers]

        return cls(blank(pool.keys), blank(pool.values))


class Decoder:
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

    @classmethod
    def of(cls, model: nn.Module, pool: Pool) -> "Decoder | None":
        """A decoder, if the model and its pool are supported and the device is an NVIDIA card."""
        model = text_network(model)
        if any(isinstance(layer, AdaptedLinear) for layer in model.modules()):
            return None  # what adapters add is computed by the layers
        if not (on_cuda() and is_supported(model) and is_supported_pool(pool)):
            return None
        ours_compile()  # runs a kernel to find out, which cannot happen while a step is traced
        decoder = cls(model)
        return decoder if decoder.works(pool) else None

    def works(self, pool: Pool) -> bool:
        """Whether trial steps give the right logits, on all devices that hold a share. Compiles the kernels of a step."""
        # Without the group, so that no device waits for one that fails.
        group, self._group = self._group, None
        try:
            difference = self._difference(pool)
            works = difference <= LARGEST_DIFFERENCE[bits_of(pool)]
            if not works:
                report(
                    f"decoding by mlx-lm: the logits of our kernels differ by {100 * difference:.0f}% of the largest from "
                    "plain operations"
                )
        except Exception as error:  # compilers and drivers raise anything
            report(f"decoding by mlx-lm: {error}")
            works = False
        if group is None:
            return works
        self._group, self._step = group, mx.compile(self._computed)
        return bool(mx.distributed.all_sum(mx.array(int(works)), group=group).item() == group.size())

    def _difference(self, pool: Pool) -> float:
        """The largest difference between logits by our kernels and by plain operations, relative to the largest logit."""
        ours = self._trial(pool)
        ops, step = self._ops, self._step
        self._ops, self._step = reference_ops, self._computed
        try:
            plain = self._trial(pool)
        finally:
            self._ops, self._step = ops, step
        largest = cast(float, mx.abs(plain).max().item())
        if not math.isfinite(largest):  # corrupt weights: requests will report that
            return 0.0
        difference = cast(float, mx.abs(ours - plain).max().item()) / max(largest, 1e-6)
        return difference if math.isfinite(difference) else math.inf

    def _trial(self, pool: Pool) -> mx.array:
        """Two texts of a token and more."""
        trial = TrialPool.like(pool, 3)
        tables = np.array([[1], [2]], np.int32)
        logits = []
        for token in range(TRIAL_TOKENS):
            ends = np.array([token, token], np.int32)
            logits.append(self.logits(mx.array([token, token + 1], mx.uint32), tables, ends, trial))
            mx.eval(logits)  # nothing else orders the steps: the tokens do not depend on earlier logits
        return mx.concatenate(logits).astype(mx.float32)

    def logits(self, tokens: mx.array, tables: Ints, ends: Ints, pool: Pool) -> mx.array:
        """Write the keys and values of `tokens` [row] at the positions `ends` [row] of the texts whose blocks are `tables`
        [row, …]; the next-token logits, [row, vocabulary]. Tables may be padded with any blocks of the pool."""
        rows = tokens.shape[0]
        places = padded(tables, ends)
        free = places.ends.shape[0] - rows
        results = self._step(mx.pad(tokens, (0, free)) if free else tokens, places, pool.keys, pool.values)
        logits, *arrays = results
        if arrays:
            written = iter(arrays)
            for layer in (*pool.keys, *pool.values):
                layer[:] = [next(written) for _ in layer]
        return logits[:rows] if free else logits

    def _computed(
        self, tokens: mx.array, places: Places, keys: list[list[mx.array]], values: list[list[mx.array]]
    ) -> list[mx.array]:
        ops, rows, (_, kv_heads, block, _) = self._ops, tokens.shape[0], keys[0][0].shape
        splits = ops.splits(rows, kv_heads, places.tables.shape[1] * block)
        places = Places(*places)
        h = self._embed(tokens)
        # What is computed next with the sum of a layer: the next layer's projections, and at last the logits.
        following: list[tuple[mx.array, Weights]] = [(layer.norm_in, layer.qkv) for layer in self._layers]
        following.append((self._norm, self._vocabulary))
        norm, fused = following[0]
        qkv = product(ops, mx.fast.rms_norm(h, norm, self._eps), fused)
        new_keys: list[mx.array] = []
        new_values: list[mx.array] = []
        for layer, k, v, (norm, fused) in zip(self._layers, keys, values, following[1:], strict=True):
            q, k, v = ops.heads(qkv, layer.layout, k, v, places)
            new_keys += k
            new_values += v
            attended = ops.attention(q, k, v, places, splits, self._scale).reshape(rows, -1)
            out = self._all_sum(product(ops, attended, layer.out))
            h, inner = normed_product(ops, h, out, layer.norm_mlp, self._eps, layer.gate_up, gated=True)
            down = self._all_sum(product(ops, inner, layer.down))
            h, qkv = normed_product(ops, h, down, norm, self._eps, fused)
        logits = qkv
        return [logits] if ops.IN_PLACE else [logits, *new_keys, *new_values]

    def _all_sum(self, x: mx.array) -> mx.array:
        """The sum over all devices."""
        return x if self._group is None else mx.distributed.all_sum(x, group=self._group)


def is_supported_pool(pool: Pool) -> bool:
    """Whether the kernels read and write such blocks."""
    return pool.keys[0][0].shape[2] == 32 and bits_of(pool) in LARGEST_DIFFERENCE


def bits_of(pool: Pool) -> int:
    """0 if it is not quantized."""
    first, *scales = pool.keys[0]
    return first.shape[-1] * 32 // (scales[0].shape[-1] * GROUP) if scales else 0


def padded(tables: Ints, ends: Ints) -> Places:
    """For as many rows and blocks as a step is compiled for."""
    rows, width = tables.shape
    slots = slots_for(rows)
    whole = np.zeros((slots, width_for(width)), np.int32)
    whole[:rows, :width] = tables
    return Places(
        mx.array(whole), mx.array(np.pad(ends.astype(np.int32), (0, slots - rows), constant_values=-1))
    )


def width_for(blocks: int) -> int:
    """How many blocks a row a step is compiled for: few numbers, because each takes a while."""
    width = FEWEST_BLOCKS
    while width < blocks:
        width *= 4
    return width


def slots_for(rows: int) -> int:
    """How many rows a step is compiled for: 1, 2, 4, then multiples of 8."""
    return next((few for few in (1, 2, 4) if rows <= few), -(-rows // 8) * 8)
