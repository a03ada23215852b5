"""What a language model is asked to write after it was loaded, so that its kernels are compiled when somebody asks."""

from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.sequence import Sequence

ALONE = [17, 33, 49, 65, 81, 97, 113, 129]  # tokens of each prompt, which but for the last are read at once
COMPANY = [9, 16, 12, 5, 20, 8, 11, 14]
# Likeliest tokens last: by then all is compiled, and the second time the batch learns how long a prompt takes.
WAYS = (Sampling(temperature=0.8, top_k=40, top_p=0.9), Sampling(temperature=0.8, top_p=0.9), Sampling())


def warm(batch: Batch, vocab: int) -> None:
    """Prompts alone, and several that end one after another, so that batches of several sizes occur."""

    def write(lengths: list[int], first: int, sampling: Sampling) -> None:
        for row, length in enumerate(lengths, first):
            prompt = [min(row, vocab - 1)] * length  # none begins like another, which would not be read
            batch.add(Sequence(("warm-up", row), prompt, max_tokens=row - first + 2, sampling=sampling))
        while batch.busy:
            batch.step()

    try:
        for row, length in enumerate(ALONE):
            write([length], row, Sampling())
        for sampling in WAYS:
            batch.forget()
            batch.clear()  # also what it has learnt of a pace that is not the usual one
            write(COMPANY, len(ALONE), sampling)
            write(COMPANY, len(ALONE) + len(COMPANY), sampling)
    except Exception:
        batch.clear()
        raise
    finally:
        batch.forget()
