"""Warm-up after loading: decode a few batches so that all kernels are compiled before they are needed."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.sequence import Sequence
from models.language.decode.matmul import compile_matmul

SINGLE_LENGTHS = [17, 33, 49, 65, 81, 97, 113, 129]  # of prompts; all but the last token go through prefill
BATCH_LENGTHS = [9, 16, 12, 5, 20, 8, 11, 14]
# Greedy comes last: by then everything is compiled, and the second batch gives a realistic estimate of prefill cost.
SAMPLINGS = (Sampling(temperature=0.8, top_k=40, top_p=0.9), Sampling(temperature=0.8, top_p=0.9), Sampling())


@dataclass(frozen=True)
class Texts:
    """Prompts that are generated from together. `first`: the row that they are counted from."""

    lengths: list[int]
    first: int
    sampling: Sampling
    resets: bool = False  # whether estimates are dropped beforehand: compiling has distorted them


def planned() -> Iterator[Texts]:
    """Single prompts, then batches whose sequences end one after another, so that several batch sizes occur."""
    for row, length in enumerate(SINGLE_LENGTHS):
        yield Texts([length], row, Sampling())
    single, batch = len(SINGLE_LENGTHS), len(BATCH_LENGTHS)
    for sampling in SAMPLINGS:
        yield Texts(BATCH_LENGTHS, single, sampling, resets=True)
        yield Texts(BATCH_LENGTHS, single + batch, sampling)


class WarmUp:
    """Goes on where it was interrupted each time that `steps` is called, until it is `done`."""

    def __init__(self, model: nn.Module, batch: Batch, vocab: int) -> None:
        self._batch, self._vocab = batch, vocab
        self._kernels = compile_matmul(model)
        self._left = deque(planned())
        self._alone = True  # nothing but the warm-up has used the batch

    @property
    def done(self) -> bool:
        return not self._left

    def steps(self) -> Iterator[None]:
        """One kernel or one step of the batch at a time. When it is closed, or fails, it leaves nothing in the batch."""
        try:
            for _ in self._kernels:
                yield
            while self._left:
                yield from self._generate(self._left[0])
                self._left.popleft()
        except GeneratorExit:
            self._reset()
            self._alone = False
            raise
        except Exception:
            self._left.clear()
            self._batch.clear()
            self._batch.forget()
            raise
        if self._alone:
            self._batch.forget()
        mx.clear_cache()

    def _reset(self) -> None:
        """Drop prompts and estimates, as long as none are of requests."""
        if self._alone:
            self._batch.forget()
            self._batch.clear()

    def _generate(self, texts: Texts) -> Iterator[None]:
        if texts.resets:
            self._reset()
        sequences = [
            # No common prefix: that would come from the prefix cache.
            Sequence(
                ("warm-up", row),
                [min(row, self._vocab - 1)] * length,
                max_tokens=row - texts.first + 2,
                sampling=texts.sampling,
            )
            for row, length in enumerate(texts.lengths, texts.first)
        ]
        for sequence in sequences:
            self._batch.add(sequence)
        try:
            while self._batch.busy:
                self._batch.step()
                yield
        except GeneratorExit:
            for sequence in sequences:
                self._batch.remove(sequence)
            raise
