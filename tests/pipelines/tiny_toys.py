"""Toy tiny autoencoders for the toys, written without the reference or made by its class."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from pipelines.base import ImageRequest
from tests.pipelines.toys import REFERENCES, Part, draw

TINY = {
    "z-image-turbo": Part("diffusers", "AutoencoderTiny", {
        "latent_channels": 6, "encoder_block_out_channels": [7] * 4, "decoder_block_out_channels": [9] * 4,
        "num_encoder_blocks": [1, 1, 1, 1], "num_decoder_blocks": [2, 1, 1, 0],
    }),
    "flux dev": Part("diffusers", "AutoencoderTiny", {
        "latent_channels": 5, "encoder_block_out_channels": [7] * 2, "decoder_block_out_channels": [10] * 2,
        "num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 2], "scaling_factor": 1.3, "shift_factor": -0.2,
    }),
}  # fmt: skip
REQUESTS = {
    "z-image-turbo": ImageRequest("a red circle", 6, width=48, height=32, steps=2, decode="tiny"),
    "flux dev": ImageRequest(
        "a red circle", 6, width=28, height=36, steps=2, guidance=3.0, n=2, decode="tiny"
    ),
}


def write(name: str, folder: Path, **config: Any) -> None:
    """In the layout of diffusers."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"_class_name": "AutoencoderTiny", **TINY[name].config, **config}
    (folder / "config.json").write_text(json.dumps(values))
    shapes = json.loads((REFERENCES / "tiny.json").read_text())[name]
    arrays = {key: mx.array(draw(key, tuple(shape))) for key, shape in shapes.items()}
    mx.save_safetensors(str(folder / "diffusion_pytorch_model.safetensors"), arrays, {"format": "pt"})
