"""What a drawn token means for its row: the output that reports it, and what the row's grammar allows next."""

from collections.abc import Collection
from collections.abc import Sequence as Items

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from models.language.batch import sampling
from models.language.batch.sequence import Matcher, Output, Sequence, TokenLogprob

NAN_LOGITS = (
    "the model produced NaN or infinite logits: the weights are corrupt, or overflow at this precision "
    "(try --dtype float32)"
)
Mask = npt.NDArray[np.uint32]


def emit(row: Sequence, token: int, logprob: TokenLogprob | None) -> Output:
    if token == sampling.NO_TOKEN:
        row.has_nan = True
        return Output(row, None, error=NAN_LOGITS)
    if row.matcher is not None and token not in row.stop_tokens:
        try:
            row.matcher.accept(token)
        except Exception as error:  # a grammar error ends its own request only
            return Output(row, None, error=grammar_failed(error))
    if token in row.stop_tokens:
        return Output(row, None, finish="stop")
    row.generated += 1
    if row.matcher is not None and row.matcher.finished:
        return Output(row, token, logprob, finish="stop")
    return Output(row, token, logprob, finish="length" if row.generated >= row.max_tokens else None)


def grammar_failed(error: Exception) -> str:
    return f"the grammar failed: {error}"


def next_mask(matcher: Matcher) -> Mask:
    """The tokens that are allowed next, at least one."""
    mask = matcher.mask()
    if not mask.any():
        raise ValueError("no token is allowed next")
    return mask


def everything(vocab: int) -> Mask:
    """A mask that allows all tokens."""
    return np.full((vocab + 31) // 32, 0xFFFFFFFF, dtype=np.uint32)


def constrained(
    logits: mx.array, rows: Items[Sequence], ended: Collection[Sequence], vocab: int
) -> tuple[mx.array, list[Output]]:
    """The logits of what the rows' grammars allow, and the outputs of those that failed."""
    masks = np.tile(everything(vocab), (len(rows), 1))
    failed = []
    for i, row in enumerate(rows):
        if row.matcher is None or row in ended:
            continue
        try:
            masks[i] = next_mask(row.matcher)
        except Exception as error:  # a grammar error ends its own request only
            failed.append(Output(row, None, error=grammar_failed(error)))
    return sampling.apply_bitmask(logits, masks), failed
