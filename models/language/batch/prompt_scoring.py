"""Log probabilities of a text's own tokens, read in chunks with a cache of their own."""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.language.batch import sampling
from models.language.batch.logprobs import likeliest
from models.language.batch.sequence import TokenLogprob
from models.language.cache.kv_cache import Cache

CHUNK = 128  # tokens: their logits take a float32 for each token of the vocabulary


def score(
    model: nn.Module, new_cache: Callable[[], Cache], prompt: list[int], top: int
) -> Iterator[list[TokenLogprob]]:
    """Of every token but the first, chunk by chunk, with the `top` likeliest in its place."""
    cache = new_cache()
    for start in range(0, len(prompt) - 1, CHUNK):
        following = prompt[start + 1 : start + 1 + CHUNK]
        fed = prompt[start : start + len(following)]
        logits = model(mx.array([fed]), cache=cache)[0]
        arrays = sampling.logprobs(logits, mx.array(following), top)
        mx.eval(*arrays, [layer.state for layer in cache])
        chosen, ids, values = (_list(array) for array in arrays)
        yield [TokenLogprob(chosen[i], likeliest(ids[i], values[i], top)) for i in range(len(following))]


def _list(array: mx.array) -> Any:
    return array.tolist()
