"""Toy diffusion transformers: configurations of odd sizes, and what is asked of each.

Weights and inputs come from seeded NumPy generators, so that stored references need hold outputs alone.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from models.checkpoint.weights import load_component
from models.files import Shard
from tests import ROOT
from tests.models.transformers.families import FLUX, FLUX2, FLUX3, KREA2, QWEN_IMAGE, Z_IMAGE, Arrays, Family

REFERENCES = ROOT / "tests" / "models" / "references"


@dataclass(frozen=True)
class Toy:
    """One configuration of one family, and one call of it."""

    family: Family
    config: Mapping[str, Any]
    call: Mapping[str, Any]

    def inputs(self) -> Arrays:
        return self.family.inputs(np.random.default_rng(7), self.config, self.call)

    def build(self, config: Path | None = None) -> Any:
        """Our network, from the reference's config.json where there is one."""
        settings = self.family.config
        network = settings.from_dict(self.config) if config is None else settings.from_file(config)
        return self.family.network(network)


def draw(name: str, shape: tuple[int, ...], norms: float = 1.0) -> np.ndarray:
    """A tensor that depends on its name alone: norms about `norms`, products that keep the stream's size."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) == 1:
        return 0.2 * noise + (norms if "norm" in name and name.endswith("weight") else 0)
    return noise * np.float32(1.3 / shape[-1] ** 0.5)


def load(network: Any, module: ModuleType, folder: Path, dtype: mx.Dtype | None = None) -> Any:
    shards = [Shard(path) for path in sorted(folder.glob("*.safetensors"))]
    load_component(network, shards, module.WEIGHTS, dtype)
    mx.eval(network.parameters())
    return network


def stored_toy(name: str, folder: Path, dtype: mx.Dtype | None = None) -> Any:
    """Our network with the drawn weights, loaded from a checkpoint with the reference's names and shapes."""
    shapes = json.loads((REFERENCES / "transformer_toys.json").read_text())[name]
    norms = TOYS[name].family.norms
    tensors = {key: mx.array(draw(key, tuple(shape), norms)) for key, shape in shapes.items()}
    mx.save_safetensors(str(folder / "diffusion_pytorch_model.safetensors"), tensors)
    return load(TOYS[name].build(), TOYS[name].family.module, folder, dtype)


def stored_output(name: str) -> np.ndarray:
    with np.load(REFERENCES / "transformer_toys.npz") as outputs:
        return outputs[name]


def run(toy: Toy, network: Any, step: int = 1, compiled: bool = False) -> np.ndarray:
    """Our output at one of the steps whose modulations were made together."""
    inputs = toy.inputs()
    prepared, modulation = toy.family.prepare(network, inputs)
    forward = mx.compile(network.step) if compiled else network.step
    out = forward(mx.array(inputs["latents"]), prepared, modulation.at(step))
    return np.array(out.astype(mx.float32))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


FLUX2_A = {
    "in_channels": 12, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 20, "num_attention_heads": 3,
    "joint_attention_dim": 22, "timestep_guidance_channels": 16, "mlp_ratio": 2.5, "axes_dims_rope": (4, 6, 6, 4),
    "rope_theta": 500, "eps": 1e-3, "guidance_embeds": False,
}  # fmt: skip
FLUX2_B = {
    "in_channels": 5, "out_channels": 7, "num_layers": 2, "num_single_layers": 1, "attention_head_dim": 12,
    "num_attention_heads": 5, "joint_attention_dim": 9, "timestep_guidance_channels": 23, "mlp_ratio": 3.0,
    "axes_dims_rope": (2, 4, 4, 2), "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": True,
}  # fmt: skip
FLUX2_C = {
    "patch_size": 2, "in_channels": 6, "num_layers": 3, "num_single_layers": 0, "attention_head_dim": 16,
    "num_attention_heads": 1, "joint_attention_dim": 40, "timestep_guidance_channels": 64, "mlp_ratio": 1.7,
    "axes_dims_rope": (8, 2, 4, 2), "rope_theta": 10000, "eps": 1e-5, "guidance_embeds": False,
}  # fmt: skip
Z_IMAGE_A = {
    "in_channels": 3, "dim": 60, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 3, "n_kv_heads": 3, "cap_feat_dim": 14,
    "axes_dims": (4, 6, 10), "axes_lens": (600, 99, 99), "all_patch_size": (2,), "all_f_patch_size": (1,),
    "norm_eps": 1e-3, "qk_norm": True, "rope_theta": 99.0, "t_scale": 500.0,
}  # fmt: skip
Z_IMAGE_B = {
    "in_channels": 7, "dim": 40, "n_layers": 1, "n_refiner_layers": 2, "n_heads": 5, "n_kv_heads": 5, "cap_feat_dim": 33,
    "axes_dims": (2, 2, 4), "axes_lens": (300, 70, 70), "all_patch_size": (1,), "all_f_patch_size": (1,),
    "norm_eps": 1e-5, "qk_norm": False, "rope_theta": 256.0, "t_scale": 1000.0,
}  # fmt: skip
# Wider than its time embedding, which stops at 256.
Z_IMAGE_C = {
    "in_channels": 2, "dim": 264, "n_layers": 1, "n_refiner_layers": 0, "n_heads": 11, "n_kv_heads": 11,
    "cap_feat_dim": 8, "axes_dims": (8, 6, 10), "axes_lens": (200, 40, 40), "all_patch_size": (3,),
    "all_f_patch_size": (1,), "norm_eps": 1e-5, "qk_norm": True, "rope_theta": 256.0, "t_scale": 1000.0,
}  # fmt: skip
FLUX_A = {
    "in_channels": 12, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 20, "num_attention_heads": 3,
    "joint_attention_dim": 22, "pooled_projection_dim": 9, "guidance_embeds": False, "axes_dims_rope": (4, 6, 10),
}  # fmt: skip
FLUX_B = {
    "in_channels": 5, "out_channels": 7, "num_layers": 2, "num_single_layers": 1, "attention_head_dim": 12,
    "num_attention_heads": 5, "joint_attention_dim": 9, "pooled_projection_dim": 30, "guidance_embeds": True,
    "axes_dims_rope": (2, 8, 2),
}  # fmt: skip
FLUX_C = {
    "patch_size": 2, "in_channels": 6, "num_layers": 0, "num_single_layers": 3, "attention_head_dim": 16,
    "num_attention_heads": 1, "joint_attention_dim": 40, "pooled_projection_dim": 4, "guidance_embeds": False,
    "axes_dims_rope": (8, 4, 4),
}  # fmt: skip
QWEN_IMAGE_A = {
    "patch_size": 2, "in_channels": 12, "out_channels": 3, "num_layers": 2, "attention_head_dim": 20,
    "num_attention_heads": 3, "joint_attention_dim": 22, "axes_dims_rope": (4, 6, 10), "zero_cond_t": False,
}  # fmt: skip
QWEN_IMAGE_B = {
    "patch_size": 1, "in_channels": 5, "out_channels": None, "num_layers": 3, "attention_head_dim": 12,
    "num_attention_heads": 5, "joint_attention_dim": 9, "axes_dims_rope": (2, 8, 2), "zero_cond_t": True,
}  # fmt: skip
KREA2_A = {
    "in_channels": 12, "num_layers": 2, "attention_head_dim": 20, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 50, "timestep_embed_dim": 26, "text_hidden_dim": 18, "num_text_layers": 3,
    "text_num_attention_heads": 3, "text_num_key_value_heads": 3, "text_intermediate_size": 22,
    "num_layerwise_text_blocks": 2, "num_refiner_text_blocks": 1, "axes_dims_rope": (4, 6, 10), "rope_theta": 700.0,
    "norm_eps": 1e-3,
}  # fmt: skip
KREA2_B = {
    "in_channels": 7, "num_layers": 1, "attention_head_dim": 12, "num_attention_heads": 3, "num_key_value_heads": 3,
    "intermediate_size": 34, "timestep_embed_dim": 10, "text_hidden_dim": 28, "num_text_layers": 5,
    "text_num_attention_heads": 4, "text_num_key_value_heads": 2, "text_intermediate_size": 30,
    "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 2, "axes_dims_rope": (6, 4, 2), "rope_theta": 1000.0,
    "norm_eps": 1e-5,
}  # fmt: skip
FLUX3_A = {
    "in_channels": 12, "cond_in_channels": 10, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 20,
    "num_attention_heads": 3, "joint_attention_dim": 22, "timestep_channels": 16, "mlp_ratio": 2.5,
    "axes_dims_rope": (4, 6, 6, 4), "rope_theta": 500, "eps": 1e-3, "flow_map": True,
}  # fmt: skip
FLUX3_B = {
    "in_channels": 5, "cond_in_channels": 5, "num_layers": 1, "num_single_layers": 3, "attention_head_dim": 12,
    "num_attention_heads": 5, "joint_attention_dim": 9, "timestep_channels": 22, "mlp_ratio": 3.0,
    "axes_dims_rope": (2, 4, 4, 2), "rope_theta": 10000, "eps": 1e-6, "flow_map": False,
}  # fmt: skip

TOYS = {
    "flux2 alone": Toy(FLUX2, FLUX2_A, {"batch": 1, "text": 7, "grid": (3, 5)}),
    "flux2 with two references": Toy(
        FLUX2, FLUX2_A, {"batch": 2, "text": 5, "grid": (2, 3), "references": ((2, 2), (3, 1))}
    ),
    "flux2 guided": Toy(FLUX2, FLUX2_B, {"batch": 2, "text": 4, "grid": (4, 3), "guidance": 3.5}),
    "flux2 without its guidance": Toy(FLUX2, FLUX2_B, {"batch": 1, "text": 1, "grid": (1, 9)}),
    "flux2 without single blocks": Toy(
        FLUX2, FLUX2_C, {"batch": 1, "text": 3, "grid": (5, 2), "references": ((4, 4),)}
    ),
    "z_image with a short caption": Toy(Z_IMAGE, Z_IMAGE_A, {"captions": (5,), "grid": (3, 5)}),
    "z_image with a caption that needs no padding": Toy(
        Z_IMAGE, Z_IMAGE_A, {"captions": (32,), "grid": (4, 8)}
    ),
    "z_image with captions of one length": Toy(Z_IMAGE, Z_IMAGE_B, {"captions": (20, 9), "grid": (7, 3)}),
    "z_image with captions of two lengths": Toy(Z_IMAGE, Z_IMAGE_B, {"captions": (70, 11), "grid": (2, 6)}),
    "z_image wide": Toy(Z_IMAGE, Z_IMAGE_C, {"captions": (33,), "grid": (2, 2)}),
    "flux alone": Toy(FLUX, FLUX_A, {"batch": 1, "text": 7, "grid": (3, 5)}),
    "flux for two": Toy(FLUX, FLUX_A, {"batch": 2, "text": 4, "grid": (4, 2)}),
    "flux guided": Toy(FLUX, FLUX_B, {"batch": 2, "text": 6, "grid": (2, 5), "guidance": 3.5}),
    "flux without double blocks": Toy(FLUX, FLUX_C, {"batch": 1, "text": 3, "grid": (5, 3)}),
    "qwen_image alone": Toy(QWEN_IMAGE, QWEN_IMAGE_A, {"texts": (7,), "grids": ((3, 5),)}),
    "qwen_image with texts of two lengths": Toy(QWEN_IMAGE, QWEN_IMAGE_A, {"texts": (4, 9), "grids": ((4, 2),)}),
    "qwen_image with two references": Toy(
        QWEN_IMAGE, QWEN_IMAGE_A, {"texts": (6, 6), "grids": ((2, 3), (5, 1), (1, 2))}
    ),
    "qwen_image with references at time 0": Toy(
        QWEN_IMAGE, QWEN_IMAGE_B, {"texts": (3, 8), "grids": ((4, 3), (2, 2), (3, 7))}
    ),
    "qwen_image at time 0 without references": Toy(QWEN_IMAGE, QWEN_IMAGE_B, {"texts": (1,), "grids": ((1, 9),)}),
    "krea2 with a short text": Toy(KREA2, KREA2_A, {"texts": (5,), "grid": (3, 5)}),
    "krea2 with texts of one length": Toy(KREA2, KREA2_A, {"texts": (9, 9), "grid": (4, 2)}),
    "krea2 with texts of two lengths": Toy(KREA2, KREA2_B, {"texts": (11, 4), "grid": (2, 7)}),
    "flux3 alone": Toy(FLUX3, FLUX3_A, {"texts": (7,), "grid": (3, 5)}),
    "flux3 with two references": Toy(
        FLUX3, FLUX3_A, {"texts": (6, 6), "grid": (2, 3), "references": ((2, 2), (3, 1))}
    ),
    "flux3 with texts of two lengths": Toy(
        FLUX3, FLUX3_B, {"texts": (4, 9), "grid": (4, 3), "references": ((3, 2),)}
    ),
    "flux3 base": Toy(FLUX3, FLUX3_B, {"texts": (5,), "grid": (1, 9)}),
}  # fmt: skip
