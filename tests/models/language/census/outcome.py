"""Compares Diptych with transformers on a checkpoint: verified, refused, or different."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from numpy.typing import NDArray

from models.files import LocalModel, Shard
from models.language.build import LoadError, build
from models.language.config.support import why_unsupported

from .checkpoints import configuration, logits, write_checkpoint

TOLERANCE = 1e-4
# Longer than the sliding window of COMMON, and not a round length; processed at once, then token by token with a cache.
PROMPT = [(37 * i + 11) % 240 + 5 for i in range(41)]
SPLIT = 30

Result = Literal["verified", "refused", "different"]


@dataclass(frozen=True)
class Outcome:
    """`detail`: the largest difference relative to the largest logit, or the refusal."""

    result: Result
    detail: str


def outcome(model_type: str, folder: Path, tied: bool = False, **changes: Any) -> Outcome:
    reference = logits(write_checkpoint(configuration(model_type, tied, **changes), folder), PROMPT).numpy()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    reason = why_unsupported(config)
    if reason is not None:
        return Outcome("refused", reason)
    try:
        model, _ = build(local(folder))
    except LoadError as error:
        return Outcome("refused", str(error))
    largest = max(difference(whole(model), reference), difference(by_token(model), reference))
    return Outcome("verified" if largest < TOLERANCE else "different", f"{largest:.1e}")


def local(folder: Path) -> LocalModel:
    shards = tuple(Shard(path) for path in sorted(folder.glob("*.safetensors")))
    return LocalModel(folder.name, folder, lambda component: shards)


def whole(model: Any) -> NDArray[np.float32]:
    return np.array(model(mx.array([PROMPT]), cache=make_prompt_cache(model)).astype(mx.float32))[0]


def by_token(model: Any) -> NDArray[np.float32]:
    """The start of the prompt at once, the rest token by token, as in decoding."""
    cache = make_prompt_cache(model)
    pieces = [PROMPT[:SPLIT], *([token] for token in PROMPT[SPLIT:])]
    return np.concatenate(
        [np.array(model(mx.array([piece]), cache=cache).astype(mx.float32))[0] for piece in pieces]
    )


def difference(values: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    if values.shape != reference.shape or not np.isfinite(values).all():
        return float("inf")
    return float(np.abs(values - reference).max() / np.abs(reference).max())
