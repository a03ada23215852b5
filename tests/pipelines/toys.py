"""Toy picture models of all families, in the layout of diffusers, written without it.

Weights depend on nothing but a tensor's name and shape, so a folder written here and modules built by the reference hold
the same numbers, and stored references need hold pictures alone. Names and shapes are the reference's own
(references/toys.json, by make_pictures.py). No size is a real one's scaled.
"""

import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from models.files import LocalModel, Shard
from tests.pipelines.qwen3_vl_toys import QWEN3_VL_TOYS
from tests.pipelines.qwen_toys import QWEN_TOYS
from tests.pipelines.toy_model import DYNAMIC, STATIC, Config, Part, Toy, qwen3, vae

REFERENCES = Path(__file__).parent / "references"


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor that depends on its name alone: norms about one, products that keep a stream's size."""
    if name == "encoder.embed_tokens.weight":  # T5's one embedding under its second name
        name = "shared.weight"
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return 0.5 + np.abs(noise)
    if name.endswith(("embed_tokens.weight", "embedding.weight", "shared.weight", "attention_bias.weight")):
        return noise
    if len(shape) < 2:
        return np.float32(0.2) * noise + np.float32(1 if "norm" in name and name.endswith("weight") else 0)
    return noise * np.float32(1.2 / np.prod(shape[1:]) ** 0.5)


def shapes(name: str) -> dict[str, dict[str, list[int]]]:
    return json.loads((REFERENCES / "toys.json").read_text())[name]


def write(name: str, folder: Path, scheduler: Config | None = None, **index: Any) -> LocalModel:
    """The toy's folder, written without torch. A shape of none is a scalar that counts batches: an integer."""
    toy = TOYS[name]
    write_texts(toy, folder, scheduler, **index)
    for part, tensors in shapes(name).items():
        stem = "model" if toy.parts[part].library == "transformers" else "diffusion_pytorch_model"
        arrays = {key: tensor(key, tuple(shape)) for key, shape in tensors.items()}
        mx.save_safetensors(str(folder / part / f"{stem}.safetensors"), arrays, {"format": "pt"})
    return local(folder, name)


def write_texts(toy: Toy, folder: Path, scheduler: Config | None = None, **index: Any) -> None:
    """Everything but the weights."""
    listed: Config = {"_class_name": toy.pipeline, "_diffusers_version": "0.42.1", **toy.index, **index}
    for part, content in toy.parts.items():
        listed[part] = [content.library, content.name]
        key = "_class_name" if content.library == "diffusers" else "architectures"
        config = {key: content.name if key == "_class_name" else [content.name], **content.config}
        _json(folder / part / "config.json", config)
    for part, kind in toy.tokenizers.items():
        made = shutil.copytree(REFERENCES / "tokenizers" / kind, folder / part)
        listed[part] = [
            "transformers",
            json.loads((made / "tokenizer_config.json").read_text())["tokenizer_class"],
        ]
    if toy.processor is not None:
        _json(folder / "processor" / "preprocessor_config.json", toy.processor)
        listed["processor"] = ["transformers", "Qwen2_5_VLProcessor"]
    if toy.modular:
        where = {"pretrained_model_name_or_path": "somebody/something", "revision": None, "variant": None}
        parts = {
            key: [*value, where | {"subfolder": key}] for key, value in listed.items() if key in toy.parts
        }
        _json(folder / "modular_model_index.json", listed | parts)
        return
    listed["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", **(scheduler or toy.scheduler)}
    _json(folder / "scheduler" / "scheduler_config.json", config)
    _json(folder / "model_index.json", listed)


def tensor(name: str, shape: tuple[int, ...]) -> mx.array:
    if name.endswith("num_batches_tracked"):
        return mx.array(0, mx.int32)
    if name.endswith("position_ids"):
        return mx.arange(shape[-1])[None]
    return mx.array(draw(name, shape))


def local(folder: Path, name: str = "toy") -> LocalModel:
    def shards(part: str) -> tuple[Shard, ...]:
        return tuple(Shard(path) for path in sorted((folder / part).glob("*.safetensors")))

    return LocalModel(name, folder, shards)


def _json(path: Path, values: Config) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


KLEIN = Part("diffusers", "Flux2Transformer2DModel", {
    "in_channels": 12, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 20, "num_attention_heads": 2,
    "joint_attention_dim": 66, "timestep_guidance_channels": 34, "mlp_ratio": 2.5, "axes_dims_rope": [4, 6, 6, 4],
    "rope_theta": 700, "eps": 1e-5, "guidance_embeds": False,
})  # fmt: skip
KLEIN_TALL = Part("diffusers", "Flux2Transformer2DModel", {
    "in_channels": 20, "num_layers": 2, "num_single_layers": 1, "attention_head_dim": 12, "num_attention_heads": 3,
    "joint_attention_dim": 78, "timestep_guidance_channels": 16, "mlp_ratio": 3.0, "axes_dims_rope": [2, 4, 4, 2],
    "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": False,
})  # fmt: skip
Z_IMAGE = Part("diffusers", "ZImageTransformer2DModel", {
    "in_channels": 6, "dim": 60, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 3, "n_kv_heads": 3,
    "cap_feat_dim": 22, "axes_dims": [4, 6, 10], "axes_lens": [600, 99, 99], "all_patch_size": [2],
    "all_f_patch_size": [1], "norm_eps": 1e-5, "qk_norm": True, "rope_theta": 256.0, "t_scale": 1000.0,
})  # fmt: skip
Z_IMAGE_BASE = Part("diffusers", "ZImageTransformer2DModel", {
    "in_channels": 5, "dim": 48, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 4, "n_kv_heads": 4,
    "cap_feat_dim": 30, "axes_dims": [2, 4, 6], "axes_lens": [700, 70, 70], "all_patch_size": [2],
    "all_f_patch_size": [1], "norm_eps": 1e-3, "qk_norm": True, "rope_theta": 99.0, "t_scale": 1000.0,
})  # fmt: skip
FLUX = Part("diffusers", "FluxTransformer2DModel", {
    "in_channels": 24, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 20, "num_attention_heads": 2,
    "joint_attention_dim": 24, "pooled_projection_dim": 18, "guidance_embeds": False, "axes_dims_rope": [4, 6, 10],
})  # fmt: skip
FLUX_DEV = Part("diffusers", "FluxTransformer2DModel", {
    "in_channels": 20, "num_layers": 2, "num_single_layers": 1, "attention_head_dim": 12, "num_attention_heads": 3,
    "joint_attention_dim": 20, "pooled_projection_dim": 28, "guidance_embeds": True, "axes_dims_rope": [2, 4, 6],
})  # fmt: skip
# Beside each token's twenty features: as many of a picture, or these and the sixteen pixels of its mask.
FLUX_CONTROL = Part(
    "diffusers", "FluxTransformer2DModel", {**FLUX_DEV.config, "in_channels": 40, "out_channels": 20}
)
FLUX_FILL = Part(
    "diffusers", "FluxTransformer2DModel", {**FLUX_DEV.config, "in_channels": 56, "out_channels": 20}
)


def clip(hidden: int, heads: int, layers: int, end: int) -> Part:
    return Part("transformers", "CLIPTextModel", {
        "model_type": "clip_text_model", "vocab_size": 730, "hidden_size": hidden, "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": 77,
        "projection_dim": hidden, "bos_token_id": 0, "eos_token_id": end,
    })  # fmt: skip


def t5(hidden: int, heads: int, layers: int) -> Part:
    return Part("transformers", "T5EncoderModel", {
        "model_type": "t5", "vocab_size": 420, "d_model": hidden, "d_kv": 10, "d_ff": 2 * hidden + 2,
        "num_layers": layers, "num_heads": heads, "feed_forward_proj": "gated-gelu", "is_encoder_decoder": False,
        "relative_attention_num_buckets": 12, "relative_attention_max_distance": 40,
    })  # fmt: skip


SCALED = {
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
FLUX_TOKENIZERS = {"tokenizer": "clip", "tokenizer_2": "t5"}
# Weights that outweigh what is computed from them: 30 MB of text encoder, 60 of transformer.
KLEIN_HEAVY = Part("diffusers", "Flux2Transformer2DModel", {
    "in_channels": 12, "num_layers": 1, "num_single_layers": 3, "attention_head_dim": 120, "num_attention_heads": 4,
    "joint_attention_dim": 576, "timestep_guidance_channels": 16, "mlp_ratio": 3.0, "axes_dims_rope": [30, 30, 30, 30],
    "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": False,
})  # fmt: skip

TOYS = {
    # Sixteen pixels a token, as the real one.
    "klein": Toy(
        "Flux2KleinPipeline",
        {
            "transformer": KLEIN,
            "vae": vae("AutoencoderKLFlux2", (6, 6, 9, 12), 3, batch_norm_eps=1e-3),
            "text_encoder": qwen3(layers=5, hidden=22, heads=4, shared=2),
        },
        DYNAMIC,
        {"tokenizer": "qwen"},
        {"is_distilled": True},
    ),
    # Four pixels a token, a static shift, guidance.
    "klein base": Toy(
        "Flux2KleinPipeline",
        {
            "transformer": KLEIN_TALL,
            "vae": vae("AutoencoderKLFlux2", (9, 15), 5, decoder_block_out_channels=[6, 12]),
            "text_encoder": qwen3(layers=8, hidden=26, heads=3, shared=1),
        },
        STATIC,
        {"tokenizer": "qwen"},
        {"is_distilled": False},
    ),
    "klein heavy": Toy(
        "Flux2KleinPipeline",
        {
            "transformer": KLEIN_HEAVY,
            "vae": vae("AutoencoderKLFlux2", (6, 6, 9, 12), 3),
            "text_encoder": qwen3(layers=8, hidden=192, heads=2, shared=1, intermediate_size=2000),
        },
        STATIC,
        {"tokenizer": "qwen"},
        {"is_distilled": True},
    ),
    "z-image-turbo": Toy(
        "ZImagePipeline",
        {
            "transformer": Z_IMAGE,
            "vae": vae("AutoencoderKL", (6, 6, 9, 12), 6, **SCALED),
            "text_encoder": qwen3(layers=4, hidden=22, heads=4, shared=2),
        },
        STATIC,
        {"tokenizer": "qwen"},
    ),
    "z-image": Toy(
        "ZImagePipeline",
        {
            "transformer": Z_IMAGE_BASE,
            "vae": vae("AutoencoderKL", (9, 15), 5, scaling_factor=0.7, shift_factor=-0.2),
            "text_encoder": qwen3(layers=3, hidden=30, heads=3, shared=3),
        },
        DYNAMIC,
        {"tokenizer": "qwen"},
    ),
    "flux schnell": Toy(
        "FluxPipeline",
        {
            "transformer": FLUX,
            "vae": vae("AutoencoderKL", (6, 6, 9, 12), 6, **SCALED),
            "text_encoder": clip(hidden=18, heads=3, layers=2, end=2),
            "text_encoder_2": t5(hidden=24, heads=3, layers=2),
        },
        {**STATIC, "shift": 1.0},
        FLUX_TOKENIZERS,
    ),
    "flux dev": Toy(
        "FluxPipeline",
        {
            "transformer": FLUX_DEV,
            "vae": vae("AutoencoderKL", (9, 15), 5, scaling_factor=0.7, shift_factor=-0.2),
            "text_encoder": clip(hidden=28, heads=2, layers=3, end=723),
            "text_encoder_2": t5(hidden=20, heads=2, layers=3),
        },
        DYNAMIC,
        FLUX_TOKENIZERS,
    ),
}
TOYS |= {
    name: replace(
        TOYS["flux dev"], pipeline=pipeline, parts={**TOYS["flux dev"].parts, "transformer": transformer}
    )
    for name, pipeline, transformer in (
        ("flux kontext", "FluxKontextPipeline", FLUX_DEV),
        ("flux control", "FluxControlPipeline", FLUX_CONTROL),
        ("flux fill", "FluxFillPipeline", FLUX_FILL),
    )
}
TOYS["klein kv"] = replace(TOYS["klein"], pipeline="Flux2KleinKVPipeline")
TOYS |= QWEN_TOYS | QWEN3_VL_TOYS
