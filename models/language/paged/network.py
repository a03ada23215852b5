"""A network over a pool of blocks, if its attention can be taken over them, which a trial beside its own caches shows."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import KVCache

from models.kernels.gpu import on_gpu
from models.language.cache.kv_cache import Cache
from models.language.corrections.rope import prompt_lengths
from models.language.decode.attention import round_up
from models.language.decode.decoder import Decoder
from models.language.paged.attention import contiguous
from models.language.paged.blocks import BlockManager
from models.language.paged.cache import PagedLayer
from models.language.paged.pool import KeyValuePool, layers_of
from models.language.paged.step import Ints, Step
from models.language.paged.table import BLOCK, Table, needed
from models.language.pictures.inputs import Inputs

log = logging.getLogger("diptych.paged")

# A trial: a prompt, then two tokens at once.
TRIAL, LATER = 9, 2
# Of logits, relative to the largest: in float32, and in half precision.
EXACT, ROUNDED = 2e-3, 0.1


class PagedNetwork:
    """The only one to write to its pool. Blocks are numbered by `manager`."""

    def __init__(self, model: nn.Module, pool: KeyValuePool, manager: BlockManager) -> None:
        self._model = model
        self.pool = pool
        self.manager = manager
        self._layers = [PagedLayer(pool, at) for at in range(len(pool.layers))]
        self._decoder: Decoder | None = None

    @classmethod
    def of(
        cls, model: nn.Module, new_cache: Callable[[], Cache], tokens: int, keep: int
    ) -> "PagedNetwork | None":
        """For so many tokens at a time, `keep` bytes of them in no running text; None if the network cannot be paged."""
        blocks = max(tokens // BLOCK, 2) + 1
        try:
            cache = new_cache()
            model(mx.zeros((1, 1), dtype=mx.uint32), cache=cache)  # sizes are known without evaluation
            layers = layers_of(cache)
            if layers is None:
                return None
            pool = KeyValuePool(layers, blocks)
            manager = BlockManager(blocks, keep // pool.bytes_per_block)
            network = cls(model, pool, manager)
            difference = network._difference(new_cache())
        except Exception as error:  # whatever a network of another kind does with such a cache
            log.info("keys and values are not kept in blocks: %s: %s", type(error).__name__, error)
            return None
        if difference > 1:
            log.info("keys and values are not kept in blocks: in a trial the logits differ")
            return None
        network._decoder = Decoder.of(model, pool)
        return network

    def _difference(self, cache: Cache) -> float:
        """Of the logits from those with the network's own caches, relative to what rounding explains."""
        tokens = mx.array([[3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 0]], mx.uint32)
        parts = [tokens[:, :TRIAL], tokens[:, TRIAL:]]
        expected = mx.concatenate([self._model(part, cache=cache)[0] for part in parts]).astype(mx.float32)
        table, _ = self.manager.open(range(TRIAL + LATER))
        self.manager.extend(table, TRIAL + LATER)
        self.pool.reserve(self.manager.touched)
        steps = [
            Step.of_prompts([table.blocks], [0], [TRIAL]),
            Step.of_rows(np.array([table.blocks], np.int32), np.array([TRIAL], np.int32), LATER),
        ]
        logits = []
        for part, step in zip(parts, steps, strict=True):
            logits.append(self._forward(part[0], step))
            mx.eval(logits)  # nothing else orders the steps: the tokens do not depend on earlier logits
        actual = mx.concatenate(logits).astype(mx.float32)
        self.clear()
        largest = cast(float, mx.abs(expected).max().item())
        if not math.isfinite(largest):  # corrupt weights: requests will report that
            return 0.0
        difference = cast(float, mx.abs(actual - expected).max().item()) / max(largest, 1e-6)
        allowed = EXACT if logits[0].dtype == mx.float32 else ROUNDED
        return difference / allowed if math.isfinite(difference) else math.inf

    def clear(self) -> None:
        """Drop all blocks."""
        self.manager.clear()
        self.pool.clear()

    def open(self, tokens: Sequence[int], salt: bytes) -> Table:
        """A table with room for `tokens`, and with what is held of their beginning."""
        table, copies = self.manager.open(tokens, salt)
        self.pool.reserve(self.manager.touched)
        self.pool.copy(copies)
        self.manager.extend(table, len(tokens))
        return table

    def close(self, table: Table, tokens: Sequence[int], sound: bool) -> None:
        """The text of a table has ended. Blocks that are not `sound` are wiped: what is masked must still be finite."""
        if not sound:
            self.pool.wipe(self.manager.own(table))
        self.manager.close(table, tokens, sound)

    def logits(self, tokens: mx.array, tables: Ints, first: Ints, shifts: Ints | None = None) -> mx.array:
        """Feed [text, count] tokens that begin at places `first`; their logits [text, count, vocabulary]. `shifts`: of the
        texts whose positions are not their places."""
        texts, count = tokens.shape
        self.pool.reserve(self.manager.touched)
        flat = tokens.flatten()
        if self._decoder is None or shifts is not None:
            logits = self._forward(flat, Step.of_rows(tables, first, count, shifts))
        else:
            ends = (first[:, None] + np.arange(count)).astype(np.int32).ravel()
            logits = self._decoder.logits(flat, np.repeat(tables, count, axis=0), ends, self.pool)
        return logits.reshape(texts, count, -1)

    @property
    def has_contiguous(self) -> bool:
        """Whether a text can be held in plain caches beside its blocks, and decoding it there is faster."""
        plain = all(layer.bits is None and layer.window is None for layer in self.pool.layers)
        return plain and not on_gpu()

    def contiguous(self, table: Table) -> Cache:
        """A copy of a text's keys and values in caches of mlx-lm's."""
        blocks = mx.array(table.blocks[: needed(table.length)], mx.int32)[None]
        cache = []
        for at, layer in enumerate(self.pool.layers):
            one = KVCache()
            if table.length:
                one.keys = contiguous(layer, self.pool.keys[at], blocks)[:, :, : table.length]
                one.values = contiguous(layer, self.pool.values[at], blocks)[:, :, : table.length]
                one.offset = table.length
            cache.append(one)
        return cache

    def logits_of_one(self, tokens: mx.array, cache: Cache) -> mx.array:
        logits: mx.array = self._model(tokens[None], cache=cache)
        return logits[:, -1]

    def write(self, table: Table, cache: Cache, begin: int) -> None:
        """Copy the tokens of a text from `begin` on out of `cache` into its blocks."""
        if begin == table.length:
            return
        self.pool.reserve(self.manager.touched)
        positions = np.arange(begin, table.length, dtype=np.int32)
        blocks = mx.array(np.array(table.blocks, np.int32)[positions // BLOCK])
        offsets = mx.array(positions % BLOCK)
        for at, layer in enumerate(cache):
            parts = (x[0, :, begin : table.length].swapaxes(0, 1) for x in (layer.keys, layer.values))
            self.pool.write(at, blocks, offsets, *parts)

    def logits_of_runs(
        self, runs: Sequence[Sequence[int]], tables: Ints, first: Ints, shifts: Ints | None = None
    ) -> mx.array:
        """Feed a run of tokens of each text; the logits of all tokens in order, [token, vocabulary]."""
        self.pool.reserve(self.manager.touched)
        tokens = mx.array([token for run in runs for token in run], mx.uint32)
        counts = np.array([len(run) for run in runs], np.int32)
        if self._decoder is not None and shifts is None:
            ends = [np.arange(start, start + count) for start, count in zip(first, counts, strict=True)]
            at = np.concatenate(ends).astype(np.int32)
            return self._decoder.logits(tokens, np.repeat(tables, counts, axis=0), at, self.pool)
        return self._forward(tokens, Step.of_runs(tables, first, counts, shifts))

    def feed(
        self,
        runs: Sequence[Sequence[int]],
        tables: Sequence[Sequence[int]],
        first: Sequence[int],
        lengths: Sequence[int],
        inputs: Inputs | None = None,
        two_way: Sequence[Sequence[tuple[int, int]]] = (),
    ) -> None:
        """Feed runs of several prompts, without logits; `lengths` are those of the whole prompts. `inputs`: what is fed in
        place of the tokens if there are pictures; `two_way`: see `Step.of_prompts`."""
        self.pool.reserve(self.manager.touched)
        counts = [len(run) for run in runs]
        padding = 0
        if inputs is None:
            fed = [token for run in runs for token in run]
            # To few lengths: libraries choose a product's kernel anew for each.
            padding = round_up(len(fed)) - len(fed)
            inputs = Inputs(mx.array(fed + [0] * padding, mx.uint32), {})
        by_token = [length for length, count in zip(lengths, counts, strict=True) for _ in range(count)]
        with prompt_lengths(by_token + [lengths[-1]] * padding):
            step = Step.of_prompts(tables, first, counts, two_way, padding)
            self._forward(inputs.tokens, step, inputs.arguments)

    def _forward(self, tokens: mx.array, step: Step, arguments: Mapping[str, Any] | None = None) -> mx.array:
        for layer in self._layers:
            layer.step = step
        logits: mx.array = self._model(tokens[:, None], cache=self._layers, **(arguments or {}))
        return logits[:, -1]

    @property
    def held_tokens(self) -> int:
        return self.manager.used * BLOCK

    @property
    def idle_bytes(self) -> int:
        """Of blocks kept for texts to come."""
        return self.manager.idle * self.pool.bytes_per_block

    def evaluate(self) -> None:
        self.pool.evaluate()
