"""Train the sample model from nothing.

    python samples/training/train.py out/shapes --steps 200 --small     a smoke test on a processor, worth nothing
    python samples/training/train.py out/shapes --minutes 12            the real thing, on one large GPU

Needs torch, diffusers and transformers (uv's group `reference`). Seeds are fixed; what differs from run to run is how
many steps fit into the time and the order in which a GPU adds.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

if TYPE_CHECKING:
    from samples.training.loop import Budget

# Torch is imported where training starts: the processes that make examples import this file, and need none.
PARTS = ("language", "autoencoder", "transformer")
# How the minutes are shared, and how many examples each part sees.
SHARES = {"language": 0.15, "autoencoder": 0.2, "transformer": 0.65}
COUNTS = {"language": 300_000, "autoencoder": 24_000, "transformer": 200_000}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the sample model.")
    parser.add_argument("folder", type=Path, metavar="OUT", help="where to write the checkpoint")
    parser.add_argument(
        "--only", choices=PARTS, nargs="+", default=PARTS, help="these parts, the others are there"
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="steps of each part")
    length.add_argument("--minutes", type=float, help="minutes for all three parts together")
    parser.add_argument("--small", action="store_true", help="tiny networks and few examples: a smoke test")
    parser.add_argument("--resume", action="store_true", help="go on with the transformer that is there")
    parser.add_argument(
        "--top", type=float, default=1.5e-3, help="the transformer's highest rate; default: %(default)s"
    )
    parser.add_argument("--long-from", type=float, default=0.7, help="when prompts get their full padding")
    parser.add_argument("--examples", type=int, help="how many examples to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    chosen = parser.parse_args(arguments)
    import torch

    from samples.training.loop import Budget

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    prepare(chosen.folder)
    for part in chosen.only:
        share = SHARES[part] / sum(SHARES[other] for other in chosen.only)
        budget = Budget(chosen.steps, chosen.minutes * share if chosen.minutes else None)
        count = chosen.examples or (1500 if chosen.small else COUNTS[part])
        TRAININGS[part](chosen, budget, count)


def prepare(folder: Path) -> None:
    """Everything of a checkpoint that is not learned, and the tokenizer."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    from samples.training.tokens import corpus, make_tokenizer, save_tokenizer, write_json

    if not (folder / "tokenizer").exists():
        save_tokenizer(make_tokenizer(corpus(20_000)), folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(
        folder / "scheduler"
    )
    index = {
        "_class_name": "Flux2KleinPipeline",
        "_diffusers_version": "0.42.1",
        "is_distilled": True,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3ForCausalLM"],
        "tokenizer": ["transformers", "Qwen2TokenizerFast"],
        "transformer": ["diffusers", "Flux2Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
    }
    write_json(folder / "model_index.json", index)


def _language(chosen: argparse.Namespace, budget: "Budget", count: int) -> None:
    from samples.training import language

    small = {"batch": 16, "shape": language.SMALLEST} if chosen.small else {}
    curve = language.train(chosen.folder, budget, count, seed=chosen.seed, **small)
    curve.save(chosen.folder / "curves")
    # The language model is a model of its own: its folder needs the tokenizer too.
    for file in (chosen.folder / "tokenizer").iterdir():
        shutil.copy(file, chosen.folder / "text_encoder" / file.name)


def _autoencoder(chosen: argparse.Namespace, budget: "Budget", count: int) -> None:
    from samples.training import autoencoder

    small = {"batch": 4, "shape": autoencoder.SMALLEST} if chosen.small else {}
    curve = autoencoder.train(chosen.folder, budget, count, seed=chosen.seed, **small)
    curve.save(chosen.folder / "curves")


def _transformer(chosen: argparse.Namespace, budget: "Budget", count: int) -> None:
    from samples.training import transformer

    small = {"batch": 2, "shape": transformer.SMALLEST} if chosen.small else {}
    curve = transformer.train(
        chosen.folder, budget, count, seed=chosen.seed, top=chosen.top, long_from=chosen.long_from,
        resume=chosen.resume, compiled=chosen.compile, **small,
    )  # fmt: skip
    curve.save(chosen.folder / "curves")


TRAININGS = {"language": _language, "autoencoder": _autoencoder, "transformer": _transformer}

if __name__ == "__main__":
    main()
