"""Warm-up after loading: decode a few batches so that all kernels are compiled before the first request."""

from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.sequence import Sequence

SINGLE_LENGTHS = [17, 33, 49, 65, 81, 97, 113, 129]  # of prompts; all but the last token go through prefill
BATCH_LENGTHS = [9, 16, 12, 5, 20, 8, 11, 14]
# Greedy comes last: by then everything is compiled, and the second batch gives a realistic estimate of prefill cost.
SAMPLINGS = (Sampling(temperature=0.8, top_k=40, top_p=0.9), Sampling(temperature=0.8, top_p=0.9), Sampling())


def warm(batch: Batch, vocab: int) -> None:
    """Single prompts, then batches whose sequences end one after another, so that several batch sizes occur."""

    def generate(lengths: list[int], first: int, sampling: Sampling) -> None:
        for row, length in enumerate(lengths, first):
            prompt = [min(row, vocab - 1)] * length  # no common prefix: that would come from the prefix cache
            batch.add(Sequence(("warm-up", row), prompt, max_tokens=row - first + 2, sampling=sampling))
        while batch.busy:
            batch.step()

    try:
        for row, length in enumerate(SINGLE_LENGTHS):
            generate([length], row, Sampling())
        for sampling in SAMPLINGS:
            batch.forget()
            batch.clear()  # resets the prefill cost estimate too: compiling has distorted it
            generate(BATCH_LENGTHS, len(SINGLE_LENGTHS), sampling)
            generate(BATCH_LENGTHS, len(SINGLE_LENGTHS) + len(BATCH_LENGTHS), sampling)
    except Exception:
        batch.clear()
        raise
    finally:
        batch.forget()
