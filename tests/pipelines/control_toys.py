"""Toy ControlNets for the toys: written without the reference, or made by its own classes. Their weights depend on names, shapes
and the net, so that none has those of the transformer beside it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from msgspec import structs

from pipelines.base import ControlNetChoice, ImageRequest
from pipelines.controls import Control
from tests.pipelines.pictures import painted
from tests.pipelines.toys import REFERENCES, Part, draw, local

_FLUX_DEV = {
    "in_channels": 20, "attention_head_dim": 12, "num_attention_heads": 3, "joint_attention_dim": 20,
    "pooled_projection_dim": 28, "axes_dims_rope": [2, 4, 6],
}  # fmt: skip
_Z_IMAGE_BASE = {
    "dim": 48, "n_refiner_layers": 2, "n_heads": 4, "n_kv_heads": 4, "norm_eps": 1e-4, "control_layers_places": [0, 2],
}  # fmt: skip
NETS = {
    # The first version: the picture is refined alone.
    "z-image-turbo": Part("diffusers", "ZImageControlNetModel", {
        "control_layers_places": [0, 1], "control_in_dim": 6, "dim": 60, "n_refiner_layers": 1, "n_heads": 3,
        "n_kv_heads": 3, "norm_eps": 1e-4,
    }),
    # The second: it is refined beside the noise, and has channels for a mask.
    "z-image, refined": Part("diffusers", "ZImageControlNetModel", _Z_IMAGE_BASE | {
        "control_in_dim": 11, "add_control_noise_refiner": "control_noise_refiner", "control_refiner_layers_places": [0, 1],
    }),
    "z-image, refined by layers": Part("diffusers", "ZImageControlNetModel", _Z_IMAGE_BASE | {
        "control_in_dim": 5, "add_control_noise_refiner": "control_layers", "control_refiner_layers_places": [1],
    }),
    # Distilled with guidance, beside a transformer without.
    "flux schnell": Part("diffusers", "FluxControlNetModel", {
        "in_channels": 24, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 20, "num_attention_heads": 2,
        "joint_attention_dim": 24, "pooled_projection_dim": 18, "guidance_embeds": True, "axes_dims_rope": [4, 6, 10],
    }),
    "flux dev": Part("diffusers", "FluxControlNetModel", _FLUX_DEV | {
        "num_layers": 1, "num_single_layers": 0, "guidance_embeds": True,
    }),
    "flux dev, union": Part("diffusers", "FluxControlNetModel", _FLUX_DEV | {
        "num_layers": 1, "num_single_layers": 0, "guidance_embeds": True, "num_mode": 5,
    }),
}  # fmt: skip


def module(name: str) -> Any:
    """The reference's network."""
    import diffusers
    import torch

    part = NETS[name]
    made = getattr(diffusers, part.name).from_config(part.config)
    with torch.no_grad():
        for key, tensor in made.state_dict().items():
            tensor.copy_(torch.tensor(_drawn(name, key, tuple(tensor.shape))))
    return made.eval()


def shapes(name: str) -> dict[str, list[int]]:
    made: dict[str, list[int]] = json.loads((REFERENCES / "controlnets.json").read_text())[name]
    return made


def request_with(request: ImageRequest, choices: Sequence[ControlNetChoice]) -> ImageRequest:
    """A request with these nets, and pictures for them of other sizes than the drawn one."""
    return structs.replace(
        request,
        controls=tuple(Control(one.name) for one in choices),
        controlnets=tuple(choices),
        control_images=tuple(painted(72 + 9 * index, 64, seed=index) for index in range(len(choices))),
    )


# What is stored of the reference: a toy, its net, how it is used, and the request.
STORED = {
    "z-image-turbo": (
        "z-image-turbo", {"scale": 0.8}, ImageRequest("a red circle", 6, width=48, height=32, steps=3, n=2),
    ),
    "z-image, refined": (
        "z-image", {"end": 0.7},
        ImageRequest("a red circle", 6, "blurry and long", width=28, height=40, steps=3, guidance=2.0),
    ),
    "flux dev, union": (
        "flux dev", {"mode": 3, "scale": 0.7, "start": 0.3},
        ImageRequest("a red circle", 6, "blurry", width=40, height=28, steps=3, guidance=2.0, true_cfg_scale=3.0),
    ),
}  # fmt: skip


def write(name: str, folder: Path, **config: Any) -> ControlNetChoice:
    """The folder of a net, without the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"_class_name": NETS[name].name, **NETS[name].config, **config}
    (folder / "config.json").write_text(json.dumps(values))
    arrays = {key: mx.array(_drawn(name, key, tuple(shape))) for key, shape in shapes(name).items()}
    mx.save_safetensors(
        str(folder / "diffusion_pytorch_model.safetensors"), arrays, metadata={"format": "pt"}
    )
    return choice(name, folder)


def choice(name: str, folder: Path, **how: Any) -> ControlNetChoice:
    return ControlNetChoice(name, local(folder, name), hash=name.encode().hex(), **how)


def _drawn(net: str, key: str, shape: tuple[int, ...]) -> Any:
    return draw(f"{net} {key}", shape)
