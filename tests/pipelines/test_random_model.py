"""Models of random weights: drawn in place, and written as checkpoints that load strictly."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.quantize import Quantization
from models.checkpoint.safetensors import read_header
from pipelines import pipeline_class
from pipelines.base import ImageRequest, Picture
from pipelines.denoise import DenoisingPipeline
from pipelines.random_model import load_random, write_random
from pipelines.settings import Settings
from tests.pipelines import toys, wide

FAMILIES = ("klein", "z-image-turbo", "flux schnell")


def draw(pipeline: DenoisingPipeline) -> np.ndarray:
    events = list(pipeline.generate(ImageRequest("a red circle", 1, width=32, height=32, steps=2)))
    return next(event.pixels for event in events if isinstance(event, Picture))


@pytest.mark.parametrize("name", [*FAMILIES, "qwen-image"])
def test_weights_are_drawn_on_the_device_and_draw(name: str, tmp_path: Path) -> None:
    toys.write_texts(toys.TOYS[name], tmp_path)
    pipeline = load_random(tmp_path, toys.TOYS[name].pipeline, Settings(dtype="float32"))
    assert draw(pipeline).std() > 0
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_written_checkpoint_has_the_references_names_and_loads_strictly(name: str, tmp_path: Path) -> None:
    toys.write_texts(toys.TOYS[name], tmp_path)
    write_random(tmp_path, toys.TOYS[name].pipeline, "bfloat16", None)
    for part, expected in toys.shapes(name).items():
        for path in (tmp_path / part).glob("*.safetensors"):
            for key, info in read_header(path).tensors.items():
                stored = key if key in expected else f"model.{key}"
                stored = stored if stored in expected else f"text_model.{key}"
                assert tuple(expected[stored]) == tuple(info.shape)
    loaded = pipeline_class(toys.TOYS[name].pipeline).load(toys.local(tmp_path), Settings(dtype="float32"))
    assert draw(loaded).std() > 0


def test_qwen_images_autoencoder_is_written_as_it_is_run(tmp_path: Path) -> None:
    """In the plane, where the reference's has a time as well."""
    toys.write_texts(toys.TOYS["qwen-image"], tmp_path)
    write_random(tmp_path, "QwenImagePipeline", "float32", None)
    (stored,) = (tmp_path / "vae").glob("*.safetensors")
    assert len(read_header(stored).tensors["decoder.conv_in.weight"].shape) == 4
    loaded = pipeline_class("QwenImagePipeline").load(toys.local(tmp_path), Settings(dtype="float32"))
    assert draw(loaded).std() > 0


def test_a_checkpoint_can_be_written_quantized(tmp_path: Path) -> None:
    wide.write(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    write_random(tmp_path, "Flux2KleinPipeline", "float32", Quantization.parse("4"))
    stored = {
        key for path in (tmp_path / "transformer").glob("*.safetensors") for key in read_header(path).tensors
    }
    assert "transformer_blocks.0.attn.to_q.scales" in stored
    assert "x_embedder.scales" not in stored
    loaded = pipeline_class("Flux2KleinPipeline").load(toys.local(tmp_path), Settings(dtype="float32"))
    assert draw(loaded).std() > 0


def test_what_is_drawn_in_place_can_be_quantized(tmp_path: Path) -> None:
    wide.write(tmp_path)
    settings = Settings(dtype="float32", quantization=Quantization.parse("4"))
    pipeline = load_random(tmp_path, "Flux2KleinPipeline", settings)
    assert pipeline.transformer().transformer_blocks[0].attn.to_qkv.scales.size
    assert draw(pipeline).std() > 0


def test_a_language_model_is_written_too(tmp_path: Path) -> None:
    config = toys.qwen3(layers=2, hidden=24, heads=4, shared=2).config
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_random(tmp_path, "", "float32", None)
    tensors = mx.load(str(tmp_path / "model.safetensors"))
    assert tensors["model.layers.1.self_attn.k_proj.weight"].shape == (28, 24)
    assert tensors["model.layers.1.self_attn.q_proj.weight"].shape == (56, 24)
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= set(tensors)
