"""Logits to tokens: each row by its own options and its own random numbers.

The order is that of llama.cpp: penalties and bias, then top_k, top_p, min_p, then temperature. Every filter is a
threshold on the logit, and the noise of a draw is a function of (seed, step, token id). A row's choice therefore depends
only on its own logits and options, not on the other rows of the batch.
"""

from collections.abc import Callable, Sequence
from functools import partial

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.language.batch.options import Sampling

# A sampler is used for this many steps, then rebuilt from the histories.
LIFETIME = 4096
# Returned for a row whose logits are NaN or infinite; not a valid token id.
NO_TOKEN = 2**32 - 1


class Sampler:
    """The options of a batch's rows as arrays. Rebuilt when rows join or leave, called once per step."""

    def __init__(
        self,
        rows: Sequence[Sampling],
        histories: Sequence[list[int]],
        steps: Sequence[int],
        vocab: int,
        lifetime: int = LIFETIME,
    ) -> None:
        """`histories`: the tokens in each row's cache. `steps`: how many tokens each row has sampled. `lifetime`: how
        often it will be called at most."""
        self.vocab = vocab
        self.age = 0
        self.greedy = all(row.greedy for row in rows)
        self._rows = rows
        self._penalties = any(row.penalizes for row in rows)
        self._bias = self._bias_rows() if any(row.bias for row in rows) else None
        if self._penalties:
            self._history, self._window = _histories(rows, histories, vocab, lifetime)
            self._repeat = _column([row.repeat_penalty for row in rows])
            self._presence = _column([row.presence_penalty for row in rows])
            self._frequency = _column([row.frequency_penalty for row in rows])
        if not self.greedy:
            self._draw = _draw_for(rows, vocab)
            self._keys = mx.array([row.key for row in rows], dtype=mx.uint32)
            self._steps = mx.array(list(steps), dtype=mx.uint32)

    def _bias_rows(self) -> mx.array:
        bias = np.zeros((len(self._rows), self.vocab), dtype=np.float32)
        for i, row in enumerate(self._rows):
            for token, value in row.bias.items():
                bias[i, token] += value
        return mx.array(bias)

    def __call__(self, logits: mx.array, inputs: mx.array) -> mx.array:
        """The next token of each row, from the logits [B, V] for `inputs` [B]; NO_TOKEN where they are not finite."""
        self.age += 1
        # The maximum of a row is NaN if any of its logits is.
        finite = mx.isfinite(mx.max(logits, axis=-1))
        return mx.where(finite, self._next(logits, inputs), mx.array(NO_TOKEN, dtype=mx.uint32))

    def _next(self, logits: mx.array, inputs: mx.array) -> mx.array:
        if self._penalties:
            self._history = mx.concatenate([self._history[:, 1:], inputs[:, None]], axis=1)
            logits = _penalized(
                logits, self._history, self._window, self._repeat, self._presence, self._frequency
            )
        if self._bias is not None:
            logits = logits + self._bias
        if self.greedy:
            return mx.argmax(logits, axis=-1).astype(mx.uint32)
        tokens = self._draw(logits.astype(mx.float32), self._keys, self._steps)
        self._steps = self._steps + 1
        return tokens


def _column(values: Sequence[float]) -> mx.array:
    return mx.array(list(values), dtype=mx.float32)[:, None]


def _histories(
    rows: Sequence[Sampling], histories: Sequence[list[int]], vocab: int, lifetime: int
) -> tuple[mx.array, mx.array]:
    """The last tokens of each row, left-padded with an id beyond the vocabulary, and how many of them count."""
    # Room for the tokens sampled in the sampler's lifetime, so that none is shifted out; a larger repeat_last_n gets no
    # more room than can be filled.
    fillable = [len(history) + 1 + lifetime for history in histories]
    windows = [
        0 if not row.penalizes else most if row.repeat_last_n < 0 else min(row.repeat_last_n, most)
        for row, most in zip(rows, fillable, strict=True)
    ]
    width = max(windows)
    table = np.full((len(rows), width), vocab, dtype=np.uint32)
    for i, history in enumerate(histories):
        tail = history[-width:]
        if tail:
            # Tokens of pictures are beyond the vocabulary as well, and count for nothing.
            table[i, width - len(tail) :] = [min(token, vocab) for token in tail]
    return mx.array(table), mx.array(windows, dtype=mx.int32)[:, None]


def _penalized(
    logits: mx.array,
    history: mx.array,
    window: mx.array,
    repeat: mx.array,
    presence: mx.array,
    frequency: mx.array,
) -> mx.array:
    vocab, width = logits.shape[-1], history.shape[-1]
    ages = mx.arange(width - 1, -1, -1, dtype=mx.int32)[None]
    counted = mx.where(ages < window, history, mx.array(vocab, dtype=history.dtype))
    rows = mx.arange(logits.shape[0])[:, None]
    counts = mx.zeros((logits.shape[0], vocab + 1), dtype=mx.float32).at[rows, counted].add(1.0)[:, :vocab]
    seen = counts > 0
    scaled = mx.where(logits > 0, logits / repeat, logits * repeat)
    penalized = mx.where(seen, scaled, logits) - counts * frequency - seen * presence
    return penalized.astype(logits.dtype) if logits.dtype != mx.float32 else penalized


def _draw_for(rows: Sequence[Sampling], vocab: int) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """A function of (logits, keys, steps) that samples for these rows."""
    greedy = mx.array([row.greedy for row in rows])
    temperature = _column([row.temperature if not row.greedy else 1.0 for row in rows])
    if not any(row.filters for row in rows):
        return lambda logits, keys, steps: _draw(logits, keys, steps, temperature, greedy)
    top_k = [vocab if row.greedy or row.top_k <= 0 else min(row.top_k, vocab) for row in rows]
    # Sorting the whole vocabulary is expensive; if every filtered row has a top_k, the best few are enough.
    narrow = max((k for row, k in zip(rows, top_k, strict=True) if row.filters), default=vocab)
    k = mx.array([min(k, narrow) for k in top_k], dtype=mx.int32)[:, None]
    top_p = _column([row.top_p if row.filters else 1.0 for row in rows])
    min_p = _column([row.min_p if row.filters else 0.0 for row in rows])
    unfiltered = mx.array([not row.filters for row in rows])[:, None]

    def draw(logits: mx.array, keys: mx.array, steps: mx.array) -> mx.array:
        floor = _threshold(logits, k, top_p, min_p, narrow)
        kept = mx.where((logits >= floor) | unfiltered, logits, -mx.inf)
        return _draw(kept, keys, steps, temperature, greedy)

    return draw


def _threshold(logits: mx.array, k: mx.array, top_p: mx.array, min_p: mx.array, narrow: int) -> mx.array:
    """The smallest logit of each row that passes top_k, then top_p, then min_p."""
    best = mx.topk(logits, narrow, axis=-1) if narrow < logits.shape[-1] else logits
    ranked = -mx.sort(-best, axis=-1)
    within = mx.arange(ranked.shape[-1], dtype=mx.int32)[None] < k
    probabilities = mx.softmax(mx.where(within, ranked, -mx.inf), axis=-1, precise=True)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    first = mx.arange(ranked.shape[-1])[None] == 0
    # The most likely token always passes, as does each token whose predecessors sum to less than top_p.
    allowed = within & ((before < top_p) | first) & (probabilities >= min_p * probabilities[:, :1])
    return mx.min(mx.where(allowed, ranked, mx.inf), axis=-1, keepdims=True)


def _noise(keys: mx.array, vocab: int) -> mx.array:
    return mx.vmap(partial(_gumbel, vocab))(keys)


def _gumbel(vocab: int, key: mx.array) -> mx.array:
    return mx.random.gumbel(shape=(vocab,), key=key)


def _draw(
    logits: mx.array, keys: mx.array, steps: mx.array, temperature: mx.array, greedy: mx.array
) -> mx.array:
    """One sample per row by the Gumbel-max trick; greedy rows take their largest logit."""
    step_keys = mx.stack([keys[:, 0], keys[:, 1] + steps], axis=1)
    noisy = logits / temperature + _noise(step_keys, logits.shape[-1])
    return mx.where(greedy, mx.argmax(logits, axis=-1), mx.argmax(noisy, axis=-1)).astype(mx.uint32)


@mx.compile
def _apply_bitmask(logits: mx.array, mask: mx.array) -> mx.array:
    bits = (mask[..., None] >> mx.arange(32, dtype=mx.uint32)) & 1
    allowed = bits.reshape(mask.shape[0], -1)[:, : logits.shape[-1]]
    return mx.where(allowed, logits, -mx.inf)


def apply_bitmask(logits: mx.array, mask: NDArray[np.uint32]) -> mx.array:
    """`logits` [B, V] with minus infinity wherever the row of `mask` [B, ceil(V / 32)], low bits first, has a 0."""
    words = -(-logits.shape[-1] // 32)
    if mask.shape != (logits.shape[0], words):
        raise ValueError(
            f"the shape of the mask is {mask.shape}; these logits need {(logits.shape[0], words)} words"
        )
    return _apply_bitmask(logits, mx.array(mask.view(np.uint32)))


def clamp(tokens: mx.array, vocab: int) -> mx.array:
    """Limit ids, NO_TOKEN among them, to the vocabulary: an embedding lookup beyond it may crash the process."""
    return mx.minimum(tokens, mx.array(vocab - 1, dtype=tokens.dtype))


def logprobs(logits: mx.array, tokens: mx.array, top: int) -> tuple[mx.array, mx.array, mx.array]:
    """The log probabilities [B] of the chosen tokens under `logits` [B, V], and the `top` likeliest ids and values [B, top]."""
    logits = logits.astype(mx.float32)
    normal = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(normal, tokens[:, None].astype(mx.int32), axis=-1)[:, 0]
    if not top:
        empty = mx.zeros((logits.shape[0], 0))
        return chosen, empty.astype(mx.uint32), empty
    ids = mx.argpartition(-normal, kth=min(top, normal.shape[-1] - 1), axis=-1)[:, :top]
    values = mx.take_along_axis(normal, ids, axis=-1)
    order = mx.argsort(-values, axis=-1)
    return chosen, mx.take_along_axis(ids, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
