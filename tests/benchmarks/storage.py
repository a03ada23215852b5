"""What keys and values in blocks cost beside padded caches, decoding in this process.

    uv run python -m tests.benchmarks.storage MODEL              rows of 40 tokens that write 60, alone and eight together
    uv run python -m tests.benchmarks.storage MODEL --rows 1,8 --prompt 300 --tokens 40

Tokens are counted by the second of processor time, prompts included. Set OPENBLAS_NUM_THREADS=1 to compare runs.
"""

import argparse
import resource
from typing import Any
from unittest.mock import patch

from runner.engine import device
from runner.sources import ModelMode, find
from runner.terminal import table


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def speed(model: Any, paged: bool, rows: int, length: int, tokens: int) -> float:
    import numpy as np

    from models.language.batch.batch import Batch
    from models.language.batch.sequence import Sequence
    from models.language.cache.prefix_cache import PrefixCache
    from models.language.paged.network import PagedNetwork

    capacity = 4 * rows * (length + tokens + 256)
    with patch.object(PagedNetwork, "of", PagedNetwork.of if paged else lambda *limits: None):
        batch = Batch(model.model, model.vocab, model.new_cache, PrefixCache(0), rows, capacity=capacity)
    random = np.random.default_rng(rows)
    for row in range(rows):
        batch.add(Sequence(row, random.integers(5, model.vocab - 5, length).tolist(), tokens))
    began, written = used(), 0
    while batch.busy:
        written += sum(output.token is not None for output in batch.step())
    return written / (used() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="folder or name of a language model")
    parser.add_argument("--rows", default="1,8", help="default: 1,8")
    parser.add_argument("--prompt", type=int, default=40, help="tokens, default: 40")
    parser.add_argument("--tokens", type=int, default=60, help="written by each row, default: 60")
    options = parser.parse_args()
    print(device.prepare())
    from models.language.load import load

    model = load(find(options.model).fetch(ModelMode.TEXT), float32=not device.has_gpu())
    measured = []
    for rows in (int(part) for part in options.rows.split(",")):
        ways = [speed(model, paged, rows, options.prompt, options.tokens) for paged in (True, False)]
        measured.append((str(rows), *(f"{way:.1f}" for way in ways)))
    print(table(["rows", "blocks", "padded caches"], measured))


if __name__ == "__main__":
    main()
