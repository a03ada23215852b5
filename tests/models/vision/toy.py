"""Checkpoints of the toys that see, and both of their networks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models import cache as mlx_cache
from numpy.typing import NDArray

from models.checkpoint.gguf.shard import of_tower
from models.checkpoint.weights import read_shards
from models.files import LocalModel, Shard
from models.language.build import build
from models.vision import loader
from models.vision.interface import SeenPicture, VisionModel
from tests.models.vision.vision_cases import GENERATED, Case, Prompt, picture, tokens_of, weights


def write_checkpoint(folder: Path, case: Case, described: Mapping[str, Any], **changes: Any) -> Path:
    """A folder as the hub has them; `described`: config and shapes as transformers has them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(described["config"]) | changes
    if case.flat:
        config |= {key: value for key, value in config.pop("text_config").items() if key != "model_type"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"image_processor": dict(case.processor)} if case.one_file else dict(case.processor)
    file = "processor_config.json" if case.one_file else "preprocessor_config.json"
    (folder / file).write_text(json.dumps(settings))
    tensors = {
        renamed(name, case): mx.array(value)
        for name, value in weights(described["shapes"], case.seed).items()
    }
    if case.channels_last:
        tensors = {
            name: mx.moveaxis(value, 1, -1) if value.ndim > 3 else value for name, value in tensors.items()
        }
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    return folder


def renamed(name: str, case: Case) -> str:
    for old, new in case.names:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


@dataclass
class Toy:
    """Both networks of a checkpoint."""

    text: Any
    vision: VisionModel

    @classmethod
    def load(cls, folder: Path, dtype: mx.Dtype = mx.float32) -> "Toy":
        return cls.of(
            LocalModel("toy", folder, lambda component: (Shard(folder / "model.safetensors"),)), dtype
        )

    @classmethod
    def of(cls, local: LocalModel, dtype: mx.Dtype = mx.float32) -> "Toy":
        text, config = build(local, "float32")
        tower = read_shards("toy", of_tower(local.shards("")), "float32")
        return cls(text, loader(config)(config, local.folder, tower, dtype))

    def run(self, prompt: Prompt) -> tuple[NDArray[np.float32], list[int]]:
        """What is written after the prompt if each token is the likeliest, and the logits of the prompt and of all of these but the
        last, [token, vocabulary]."""
        pictures = [self.vision.look(picture(part)) for part in prompt if isinstance(part, tuple)]
        tokens = tokens_of(prompt, [seen.tokens for seen in pictures], self.vision.placeholder)
        cache = mlx_cache.make_prompt_cache(self.text)
        if self.vision.two_way and pictures:
            cache = [TwoWayCache(np.array(tokens) == self.vision.placeholder) for _ in cache]
        positions = self.vision.positions(tokens, pictures)
        axes = {} if positions is None else {"positions": mx.array(positions.axes)}
        logits = self.text(mx.array([tokens]), cache=cache, **self._pictures(tokens, pictures), **axes)
        written = [int(mx.argmax(logits[0, -1]).item())]
        parts = [logits[0]]
        while len(written) < GENERATED:
            if positions is not None:
                at = len(tokens) + len(written) - 1 + positions.offset
                axes = {"positions": mx.array([[at] * 3])}
            following = self.text(mx.array([written[-1:]]), cache=cache, **axes)
            written.append(int(mx.argmax(following[0, -1]).item()))
            parts.append(following[0])
        return np.array(mx.concatenate(parts)), written

    def _pictures(self, tokens: list[int], pictures: list[SeenPicture]) -> dict[str, Any]:
        if not pictures:
            return {}
        features = [self.vision.features(seen) for seen in pictures]
        places = [at for at, token in enumerate(tokens) if token == self.vision.placeholder]
        text = mx.array([0 if token == self.vision.placeholder else token for token in tokens])
        embeddings = embedding(self.text)(text)
        embeddings[mx.array(places)] = mx.concatenate([each.rows for each in features])
        inputs: dict[str, Any] = {"input_embeddings": embeddings[None]}
        if features[0].deepstack:
            layers = [
                mx.concatenate(rows) for rows in zip(*(each.deepstack for each in features), strict=True)
            ]
            added = [mx.zeros_like(embeddings) for _ in layers]
            for rows, layer in zip(added, layers, strict=True):
                rows[mx.array(places)] = layer
            inputs["deepstack"] = [rows[None] for rows in added]
        return inputs


class TwoWayCache(mlx_cache.KVCache):
    """Its mask lets the rows of a picture see each other in both directions."""

    def __init__(self, rows: NDArray[np.bool_]) -> None:
        super().__init__()
        begins = rows & ~np.concatenate([[False], rows[:-1]])
        self.pictures = np.where(rows, np.cumsum(begins), 0)

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        length = self.offset + count
        pictures = np.pad(self.pictures, (0, max(0, length - len(self.pictures))))[:length]
        query, key = np.arange(self.offset, length)[:, None], np.arange(length)
        visible = (key <= query) | ((pictures[query] == pictures[key]) & (pictures[key] > 0))
        return mx.array(visible & (key > query - (window_size or length)))


def embedding(network: Any) -> Any:
    return next(module for path, module in network.named_modules() if path.endswith("embed_tokens"))
