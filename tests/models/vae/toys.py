"""Toy autoencoders: several sets of dimensions, and weights that anyone makes alike from a tensor's name."""

import zlib
from typing import Any

import numpy as np

KL: dict[str, dict[str, Any]] = {
    "plain": {
        "block_out_channels": [8, 16],
        "latent_channels": 4,
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    "deep, quant convolutions, no shift": {
        "block_out_channels": [6, 12, 12, 18],
        "latent_channels": 5,
        "norm_num_groups": 3,
        "layers_per_block": 2,
        "scaling_factor": 0.18215,
    },
    "no attention": {
        "block_out_channels": [10, 10, 20],
        "latent_channels": 3,
        "norm_num_groups": 5,
        "layers_per_block": 1,
        "scaling_factor": 1.5,
        "shift_factor": -0.4,
        "use_quant_conv": True,
        "use_post_quant_conv": False,
        "mid_block_add_attention": False,
    },
    "one block": {
        "block_out_channels": [16],
        "latent_channels": 4,
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "scaling_factor": 0.5,
    },
}
FLUX2: dict[str, dict[str, Any]] = {
    "plain": {
        "block_out_channels": [8, 16],
        "latent_channels": 4,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    },
    "another decoder, no quant convolutions": {
        "block_out_channels": [8, 16, 16],
        "decoder_block_out_channels": [4, 8, 12],
        "latent_channels": 6,
        "norm_num_groups": 4,
        "layers_per_block": 2,
        "batch_norm_eps": 0.01,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    "no attention": {
        "block_out_channels": [6, 6, 12],
        "latent_channels": 3,
        "norm_num_groups": 2,
        "layers_per_block": 1,
        "mid_block_add_attention": False,
    },
}
QWEN_IMAGE: dict[str, dict[str, Any]] = {
    "plain": {
        "base_dim": 6,
        "z_dim": 5,
        "dim_mult": [1, 2, 3, 3],
        "num_res_blocks": 2,
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.1, 0.2, -0.3, 0.4, 0.5],
        "latents_std": [1.5, 2.0, 0.7, 1.1, 0.4],
    },
    "wider outside": {
        "base_dim": 4,
        "z_dim": 3,
        "dim_mult": [3, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [True],
        "latents_mean": [0.0, -1.0, 2.0],
        "latents_std": [0.5, 3.0, 1.0],
    },
}
BLOCKS = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
REAL: dict[str, dict[str, Any]] = {
    "FLUX.1 and Z-Image": {
        "_class_name": "AutoencoderKL",
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    | BLOCKS,
    "FLUX.2": {"_class_name": "AutoencoderKLFlux2", "latent_channels": 32} | BLOCKS,
    "FLUX.2, a small decoder": {
        "_class_name": "AutoencoderKLFlux2",
        "latent_channels": 32,
        "decoder_block_out_channels": [96, 192, 384, 384],
    }
    | BLOCKS,
    "Qwen-Image": {"_class_name": "AutoencoderKLQwenImage"},
}
KINDS = {"KL": KL, "Flux2": FLUX2, "QwenImage": QWEN_IMAGE}
ALL = [(kind, name) for kind, toys in KINDS.items() for name in toys]


def checkpoint_config(kind: str, name: str) -> dict[str, Any]:
    """As config.json states it."""
    config = dict(KINDS[kind][name])
    if kind == "QwenImage":
        return config | {"_class_name": "AutoencoderKLQwenImage"}
    blocks = len(config["block_out_channels"])
    return config | {
        "_class_name": "AutoencoderKL" if kind == "KL" else "AutoencoderKLFlux2",
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
    }


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of that name, in the checkpoint's layout: norms near 1, the rest so that signals keep their size."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return noise**2 + 0.1
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.3 * noise
    if len(shape) > 1:
        return noise / np.float32(np.sqrt(np.prod(shape[1:])))
    return 0.2 * noise


def blocks(kind: str, name: str) -> int:
    config = KINDS[kind][name]
    return len(config["dim_mult" if kind == "QwenImage" else "block_out_channels"])


def size(kind: str, name: str) -> tuple[int, int]:
    """Rows and columns of the toy's latents: few, and rows that no strip divides."""
    return {1: (22, 18), 2: (14, 10), 3: (10, 6), 4: (6, 4)}[blocks(kind, name)]


def pictures(kind: str, name: str) -> np.ndarray:
    """A smooth one between -1 and 1, [1, height, width, 3]."""
    rows, columns = size(kind, name)
    scale = 2 ** (blocks(kind, name) - 1)
    y, x = np.mgrid[: rows * scale, : columns * scale].astype(np.float32)
    phases = np.array([0.3, 1.7, 4.1], np.float32)
    waves = np.sin(x[None, ..., None] / 5 + phases) * np.cos(y[None, ..., None] / 7 + 2 * phases)
    return waves.astype(np.float32)


def latents(kind: str, name: str) -> np.ndarray:
    channels = KINDS[kind][name]["z_dim" if kind == "QwenImage" else "latent_channels"]
    return np.random.default_rng(5).standard_normal((1, *size(kind, name), channels), dtype=np.float32)
