"""The head and the embedding: one matrix or two, as the files have them, and as files written from them have them."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import gemma2
from mlx_lm.models.cache import make_prompt_cache

from models.checkpoint.quantize import Quantization
from models.files import LocalModel, Shard
from models.language.build import build
from models.language.quantize import write_quantized

CONFIG = {
    "model_type": "gemma2",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 32,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Gemma 2 as it is stored: without a head."""
    folder = tmp_path / "source"
    folder.mkdir()
    mx.random.seed(3)
    network = gemma2.Model(gemma2.ModelArgs.from_dict(CONFIG))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(network.parameters())))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def local(folder: Path) -> LocalModel:
    shards = tuple(Shard(path) for path in sorted(folder.glob("*.safetensors")))
    return LocalModel(folder.name, folder, lambda component: shards)


def logits(model: nn.Module) -> np.ndarray:
    return np.array(model(mx.array([[5, 9, 300, 17]]), cache=make_prompt_cache(model)).astype(mx.float32))[0]


def with_head(folder: Path, source: Path, head: mx.array) -> Path:
    """The same with a head in its files."""
    folder.mkdir()
    (folder / "config.json").write_text((source / "config.json").read_text())
    weights = mx.load(str(source / "model.safetensors"))
    mx.save_safetensors(str(folder / "model.safetensors"), {**weights, "lm_head.weight": head})
    return folder


def embedding(source: Path) -> mx.array:
    return mx.load(str(source / "model.safetensors"))["model.embed_tokens.weight"]


def test_a_head_beside_the_embedding_is_used(source: Path, tmp_path: Path) -> None:
    plain, _ = build(local(source))
    other, _ = build(local(with_head(tmp_path / "twice", source, embedding(source) * 2)))
    raw = np.arctanh(logits(plain) / 30) * 30  # its logits are capped at 30
    np.testing.assert_allclose(logits(other), np.tanh(2 * raw / 30) * 30, rtol=1e-3, atol=1e-4)


def test_a_head_that_is_the_embedding_again_costs_nothing(source: Path, tmp_path: Path) -> None:
    model, _ = build(local(with_head(tmp_path / "again", source, embedding(source))))
    assert isinstance(model.model.embed_tokens, nn.Embedding)


def test_a_quantized_copy_of_such_a_model_can_be_loaded(source: Path, tmp_path: Path) -> None:
    folder = with_head(tmp_path / "twice", source, embedding(source) * 2)
    write_quantized(local(folder), Quantization(8, 32), tmp_path / "small")
    assert "quantization" in json.loads((tmp_path / "small" / "config.json").read_text())
    whole, small = build(local(folder))[0], build(local(tmp_path / "small"))[0]
    difference = np.abs(logits(small) - logits(whole)).max() / np.abs(logits(whole)).max()
    assert 0 < difference < 0.05
