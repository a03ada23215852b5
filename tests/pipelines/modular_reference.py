"""Toys of the reference's modular pipelines, made and saved by them."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.files import LocalModel
from tests.pipelines.toys import Toy, local

transformers = pytest.importorskip("transformers")

BLOCKS = "diffusers.modular_pipelines.flux3.modular_blocks_flux3"


class Processor:
    """What the pipeline needs of a processor, which cannot be made without torchvision: what it does with texts."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.apply_chat_template = tokenizer.apply_chat_template


def save_modular(
    toy: Toy, parts: dict[str, Any], texts: Path, folder: Path, name: str
) -> tuple[Any, LocalModel]:
    """The same by a modular pipeline, without the language model that rewrites prompts."""
    distilled = "Distilled" in toy.pipeline
    kind = "Flux3DistilledAutoBlocks" if distilled else "Flux3AutoBlocks"
    blocks = getattr(importlib.import_module(f"{BLOCKS}_distilled" if distilled else BLOCKS), kind)()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipeline = blocks.init_pipeline()
    pipeline.update_components(**parts)
    pipeline.save_pretrained(str(folder))
    for part in toy.tokenizers:
        shutil.copytree(texts / part, folder / part)
        tokenizer = transformers.AutoTokenizer.from_pretrained(texts / part)
        setattr(pipeline, part, Processor(tokenizer))
    # Its size is the real one's where no autoencoder says otherwise.
    side = 2 * pipeline.vae_scale_factor
    pipeline.image_processor = type(pipeline.image_processor)(vae_scale_factor=side)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, local(folder, name)
