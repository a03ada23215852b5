"""Toys whose text encoder is Qwen3-VL's text network: FLUX.3 klein and Krea 2. No size is a real one's scaled."""

from typing import Any

import numpy as np

from tests.pipelines.toy_model import DYNAMIC, Part, Toy, qwen3, vae


def qwen3_vl(name: str, layers: int, hidden: int, heads: int, shared: int, **more: Any) -> Part:
    text = qwen3(layers, hidden, heads, shared, **more).config | {
        "model_type": "qwen3_vl_text",
        "pad_token_id": 1,
    }
    text |= {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": text.pop("rope_theta"),
            "mrope_section": [3, 2, 2],
            "mrope_interleaved": True,
        }
    }
    tower = {"model_type": "qwen3_vl_vision", "depth": 1, "hidden_size": 8, "num_heads": 2, "intermediate_size": 6,
             "out_hidden_size": hidden, "num_position_embeddings": 4, "deepstack_visual_indexes": [0], "patch_size": 2}  # fmt: skip
    return Part("transformers", name, {
        "model_type": "qwen3_vl", "text_config": text, "vision_config": tower, "tie_word_embeddings": False,
        "image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 7, "vision_end_token_id": 8,
    })  # fmt: skip


def qwen_image_vae(latents: int, base: int, factors: tuple[int, ...], through_time: tuple[bool, ...]) -> Part:
    """The size stands where real ones have none, and the reference leaves it out."""
    random = np.random.default_rng(latents)
    return Part("diffusers", "AutoencoderKLQwenImage", {
        "base_dim": base, "z_dim": latents, "dim_mult": list(factors), "num_res_blocks": 1, "attn_scales": [],
        "temperal_downsample": list(through_time), "latents_mean": random.normal(size=latents).round(3).tolist(),
        "latents_std": (1 + random.random(latents)).round(3).tolist(), "sample_size": 64,
    })  # fmt: skip


FLUX3 = Part("diffusers", "Flux3Transformer2DModel", {
    "in_channels": 12, "cond_in_channels": 12, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 20,
    "num_attention_heads": 2, "joint_attention_dim": 176, "timestep_channels": 34, "mlp_ratio": 2.5,
    "axes_dims_rope": [4, 6, 6, 4], "rope_theta": 700, "eps": 1e-5, "flow_map": True,
})  # fmt: skip
FLUX3_BASE = Part("diffusers", "Flux3Transformer2DModel", {
    "in_channels": 20, "cond_in_channels": 20, "num_layers": 2, "num_single_layers": 1, "attention_head_dim": 12,
    "num_attention_heads": 3, "joint_attention_dim": 208, "timestep_channels": 16, "mlp_ratio": 3.0,
    "axes_dims_rope": [2, 4, 4, 2], "rope_theta": 10000, "eps": 1e-6, "flow_map": False,
})  # fmt: skip
KREA2 = Part("diffusers", "Krea2Transformer2DModel", {
    "in_channels": 20, "num_layers": 2, "attention_head_dim": 20, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 50, "timestep_embed_dim": 26, "text_hidden_dim": 22, "num_text_layers": 3,
    "text_num_attention_heads": 2, "text_num_key_value_heads": 1, "text_intermediate_size": 34,
    "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 2, "axes_dims_rope": [4, 6, 10], "rope_theta": 700.0,
    "norm_eps": 1e-4,
})  # fmt: skip
KREA2_RAW = Part("diffusers", "Krea2Transformer2DModel", {
    "in_channels": 12, "num_layers": 1, "attention_head_dim": 12, "num_attention_heads": 3, "num_key_value_heads": 3,
    "intermediate_size": 28, "timestep_embed_dim": 12, "text_hidden_dim": 26, "num_text_layers": 2,
    "text_num_attention_heads": 2, "text_num_key_value_heads": 2, "text_intermediate_size": 30,
    "num_layerwise_text_blocks": 2, "num_refiner_text_blocks": 1, "axes_dims_rope": [2, 4, 6], "rope_theta": 1000.0,
    "norm_eps": 1e-5,
})  # fmt: skip

QWEN3_VL_TOYS = {
    "flux3 klein": Toy(
        "Flux3DistilledModularPipeline",
        {
            "transformer": FLUX3,
            "vae": vae("AutoencoderKLFlux2", (6, 6, 9, 12), 3, batch_norm_eps=1e-3),
            "text_encoder": qwen3_vl(
                "Qwen3VLForConditionalGeneration", layers=10, hidden=22, heads=4, shared=2
            ),
        },
        {},
        {"tokenizer": "qwen"},
        modular=True,
    ),
    "flux3 klein base": Toy(
        "Flux3ModularPipeline",
        {
            "transformer": FLUX3_BASE,
            "vae": vae("AutoencoderKLFlux2", (9, 15), 5, decoder_block_out_channels=[6, 12]),
            "text_encoder": qwen3_vl(
                "Qwen3VLForConditionalGeneration", layers=9, hidden=26, heads=3, shared=1
            ),
        },
        {},
        {"tokenizer": "qwen"},
        modular=True,
    ),
    "krea2 turbo": Toy(
        "Krea2Pipeline",
        {
            "transformer": KREA2,
            "vae": qwen_image_vae(5, 6, (1, 2, 2), (True, False)),
            "text_encoder": qwen3_vl("Qwen3VLModel", layers=5, hidden=22, heads=4, shared=2),
        },
        {**DYNAMIC, "max_image_seq_len": 6400},
        {"tokenizer": "qwen"},
        {"is_distilled": True, "text_encoder_select_layers": [1, 3, 4], "patch_size": 2},
    ),
    "krea2 raw": Toy(
        "Krea2Pipeline",
        {
            "transformer": KREA2_RAW,
            "vae": qwen_image_vae(3, 8, (2, 1, 1, 3), (False, True, True)),
            "text_encoder": qwen3_vl("Qwen3VLModel", layers=4, hidden=26, heads=3, shared=1),
        },
        DYNAMIC,
        {"tokenizer": "qwen"},
        {"is_distilled": False, "text_encoder_select_layers": [0, 2], "patch_size": 2},
    ),
}
