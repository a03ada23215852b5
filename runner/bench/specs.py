"""Models by name: the configurations of published models, to be built without a checkpoint, and cut. No MLX."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Config = dict[str, Any]

QWEN3: Config = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151936, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0, "max_position_embeddings": 40960, "attention_bias": False, "tie_word_embeddings": True,
}  # fmt: skip
QWEN3_06B = QWEN3 | {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
}  # fmt: skip
QWEN3_4B = QWEN3 | {"hidden_size": 2560, "intermediate_size": 9728}
QWEN3_8B = QWEN3 | {"hidden_size": 4096, "intermediate_size": 12288}
# The text network of Qwen3-VL; the tower has no part in pictures, and no weights here.
QWEN3_VL_4B: Config = {
    "model_type": "qwen3_vl", "text_config": QWEN3_4B | {"model_type": "qwen3_vl_text", "rope_theta": 5000000.0},
}  # fmt: skip
# Its last token stands for pictures.
QWEN2_5_VL_7B: Config = {
    "model_type": "qwen2_5_vl", "image_token_id": 152063, "video_token_id": 152062,
    "text_config": {
        "model_type": "qwen2_5_vl_text", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "max_position_embeddings": 128000, "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "model_type": "qwen2_5_vl", "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "patch_size": 14, "window_size": 112, "out_hidden_size": 3584, "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "tie_word_embeddings": False,
}  # fmt: skip
CLIP_L: Config = {
    "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77, "projection_dim": 768,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "bos_token_id": 49406, "eos_token_id": 49407,
}  # fmt: skip
T5_XXL: Config = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu", "is_encoder_decoder": False,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
}  # fmt: skip
BLOCKS: Config = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32, "act_fn": "silu",
    "in_channels": 3, "out_channels": 3, "sample_size": 1024, "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
VAE = BLOCKS | {
    "_class_name": "AutoencoderKL", "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
VAE_FLUX2 = BLOCKS | {"_class_name": "AutoencoderKLFlux2", "latent_channels": 32}
KLEIN: Config = {
    "_class_name": "Flux2Transformer2DModel", "in_channels": 128, "num_layers": 5, "num_single_layers": 20,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 7680, "patch_size": 1,
    "timestep_guidance_channels": 256, "mlp_ratio": 3.0, "axes_dims_rope": [32, 32, 32, 32], "rope_theta": 2000,
    "eps": 1e-6, "guidance_embeds": False,
}  # fmt: skip
KLEIN_9B = KLEIN | {
    "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "joint_attention_dim": 12288,
}  # fmt: skip
FLUX3_KLEIN: Config = {
    "_class_name": "Flux3Transformer2DModel", "in_channels": 128, "cond_in_channels": 128, "num_layers": 5,
    "num_single_layers": 28, "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 20480,
    "timestep_channels": 256, "mlp_ratio": 3.0, "axes_dims_rope": [32, 32, 32, 32], "rope_theta": 10000, "eps": 1e-6,
    "flow_map": True,
}  # fmt: skip
Z_IMAGE: Config = {
    "_class_name": "ZImageTransformer2DModel", "in_channels": 16, "dim": 3840, "n_layers": 30, "n_refiner_layers": 2,
    "n_heads": 30, "n_kv_heads": 30, "cap_feat_dim": 2560, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
    "all_patch_size": [2], "all_f_patch_size": [1], "norm_eps": 1e-5, "qk_norm": True, "rope_theta": 256.0,
    "t_scale": 1000.0,
}  # fmt: skip
FLUX1: Config = {
    "_class_name": "FluxTransformer2DModel", "in_channels": 64, "num_layers": 19, "num_single_layers": 38,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
    "guidance_embeds": False, "axes_dims_rope": [16, 56, 56], "patch_size": 1,
}  # fmt: skip
KREA2: Config = {
    "_class_name": "Krea2Transformer2DModel", "in_channels": 64, "num_layers": 28, "attention_head_dim": 128,
    "num_attention_heads": 48, "num_key_value_heads": 12, "intermediate_size": 16384, "timestep_embed_dim": 256,
    "text_hidden_dim": 2560, "num_text_layers": 12, "text_num_attention_heads": 20, "text_num_key_value_heads": 20,
    "text_intermediate_size": 6912, "num_layerwise_text_blocks": 2, "num_refiner_text_blocks": 2,
    "axes_dims_rope": [32, 48, 48], "rope_theta": 1000.0, "norm_eps": 1e-5,
}  # fmt: skip
VAE_QWEN_IMAGE: Config = {"_class_name": "AutoencoderKLQwenImage", "z_dim": 16, "attn_scales": []}
QWEN_IMAGE: Config = {
    "_class_name": "QwenImageTransformer2DModel", "patch_size": 2, "in_channels": 64, "out_channels": 16, "num_layers": 60,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 3584, "axes_dims_rope": [16, 56, 56],
}  # fmt: skip
STATIC: Config = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": False}
DYNAMIC = STATIC | {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
    "max_image_seq_len": 4096, "time_shift_type": "exponential",
}  # fmt: skip
# Which keys count the blocks of a component.
DEPTHS = ("num_layers", "num_single_layers", "n_layers", "n_refiner_layers")
# Prompt embeddings are taken at a quarter, half and three quarters of an encoder's depth, so it keeps this many times the blocks.
ENCODER_DEPTH = 4


@dataclass(frozen=True)
class Spec:
    """A model to measure. `parts` are the components' configs, "" for a language model's; `tokenizers` the kinds that
    stand in for its own; `layers` what it was cut to, or None; `checkpoint` the name of a real one, which has everything."""

    name: str
    pipeline: str  # "" for text
    parts: Mapping[str, Config]
    tokenizers: Mapping[str, str]
    scheduler: Config
    steps: int = 0
    text_tokens: int = 0  # what the transformer gets
    index: Mapping[str, Any] | None = None
    processor: Mapping[str, Any] | None = None  # of pictures that the text encoder sees
    layers: int | None = None
    checkpoint: str | None = None

    @property
    def draws(self) -> bool:
        return bool(self.pipeline)

    def cut(self, layers: int | None) -> "Spec":
        """The same width, with this many blocks of each kind."""
        if layers is None or self.checkpoint is not None:
            return self
        parts = {name: _cut(config, layers) for name, config in self.parts.items()}
        return replace(self, parts=parts, layers=layers)


def _cut(config: Config, layers: int) -> Config:
    cut = copy.deepcopy(config)
    for key in DEPTHS:
        if key in cut:
            cut[key] = min(layers, cut[key])
    encoder = cut.get("text_config", cut)
    if "num_hidden_layers" in encoder:
        encoder["num_hidden_layers"] = min(ENCODER_DEPTH * layers, encoder["num_hidden_layers"])
    if "vision_config" in cut:
        cut["vision_config"]["depth"] = min(layers, cut["vision_config"]["depth"])
    return cut


def _qwen_image(name: str, pipeline: str, steps: int, **more: Any) -> Spec:
    transformer = QWEN_IMAGE | {"zero_cond_t": "processor" in more}
    parts = {"transformer": transformer, "vae": VAE_QWEN_IMAGE, "text_encoder": QWEN2_5_VL_7B}
    schedule = DYNAMIC | {"shift": 1.0, "max_shift": 0.9, "max_image_seq_len": 8192, "shift_terminal": 0.02}
    return Spec(name, pipeline, parts, {"tokenizer": "qwen-vl"}, schedule, steps, 128, **more)


def _klein(name: str, transformer: Config, encoder: Config) -> Spec:
    parts = {"transformer": transformer, "vae": VAE_FLUX2, "text_encoder": encoder}
    distilled = {"is_distilled": True}
    return Spec(name, "Flux2KleinPipeline", parts, {"tokenizer": "qwen"}, DYNAMIC, 4, 512, distilled)


SPECS = {
    spec.name: spec
    for spec in (
        _klein("klein-4b", KLEIN, QWEN3_4B),
        _klein("klein-9b", KLEIN_9B, QWEN3_8B),
        Spec(
            "flux3-klein",
            "Flux3DistilledModularPipeline",
            {"transformer": FLUX3_KLEIN, "vae": VAE_FLUX2, "text_encoder": QWEN3_VL_4B},
            {"tokenizer": "qwen"},
            {},
            16,
            80,
        ),
        Spec(
            "krea2-turbo",
            "Krea2Pipeline",
            {"transformer": KREA2, "vae": VAE_QWEN_IMAGE, "text_encoder": QWEN3_VL_4B},
            {"tokenizer": "qwen"},
            DYNAMIC | {"max_image_seq_len": 6400},
            8,
            64,
            {"is_distilled": True, "patch_size": 2},
        ),
        Spec(
            "z-image",
            "ZImagePipeline",
            {"transformer": Z_IMAGE, "vae": VAE, "text_encoder": QWEN3_4B},
            {"tokenizer": "qwen"},
            STATIC,
            8,
            128,
            {"is_distilled": True},
        ),
        Spec(
            "flux1-schnell",
            "FluxPipeline",
            {"transformer": FLUX1, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": T5_XXL},
            {"tokenizer": "clip", "tokenizer_2": "t5"},
            STATIC | {"shift": 1.0},
            4,
            256,
        ),
        _qwen_image("qwen-image", "QwenImagePipeline", 50),
        _qwen_image(
            "qwen-image-edit",
            "QwenImageEditPlusPipeline",
            40,
            processor={"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2},
        ),
        Spec("qwen3-0.6b", "", {"": QWEN3_06B}, {"": "text"}, {}),
        Spec("qwen3-4b", "", {"": QWEN3_4B}, {"": "text"}, {}),
    )
}
# The classes in model_index.json by model type.
LIBRARIES = {
    "qwen3": "Qwen3ForCausalLM",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}


def write_texts(spec: Spec, folder: Path) -> None:
    """A model's folder without its weights."""
    from runner.bench.tokenizers import write_tokenizer  # slow to import

    for part, kind in spec.tokenizers.items():
        config = spec.parts.get(part.replace("tokenizer", "text_encoder"), {})
        write_tokenizer(folder / part, kind, config.get("text_config", config)["vocab_size"])
    for part, config in spec.parts.items():
        _write(folder / part / "config.json", config)
    if not spec.draws:
        return
    if spec.processor is not None:
        _write(folder / "processor" / "preprocessor_config.json", dict(spec.processor))
    index: Config = {"_class_name": spec.pipeline, **(spec.index or {})}
    for part, config in spec.parts.items():
        name = config.get("_class_name") or LIBRARIES[config["model_type"]]
        index[part] = ["diffusers" if "_class_name" in config else "transformers", name]
    _write(folder / "model_index.json", index)
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", **spec.scheduler}
    _write(folder / "scheduler" / "scheduler_config.json", scheduler)


def _write(path: Path, values: Config) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
