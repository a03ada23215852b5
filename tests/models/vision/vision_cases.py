"""Toy models that see: what they look like, their weights by seed, and prompts with pictures. Needs no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Width and height of a picture.
Size = tuple[int, int]
# Tokens, and pictures by their sizes.
Prompt = tuple[int | Size, ...]
GENERATED = 6
STORED = 20  # rows of logits, the last of a text
Fields = Mapping[str, Any]
NO_CHANGES: Fields = {}
ONE: Prompt = (5, 9, 3, (37, 61), 8, 2, 7, 7, 1)
TWO: Prompt = (4, (90, 33), 6, 11, 13, 2, (25, 26), 3, 8, 5, 9, 10)
NONE: Prompt = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5)


@dataclass(frozen=True)
class Case:
    """`names`: how prefixes of tensors in transformers' file are changed, for the other layouts that there are."""

    reference: str
    config: Mapping[str, Any]
    processor: Mapping[str, Any]
    image_processor: str
    prompts: tuple[Prompt, ...] = (ONE, TWO, NONE)
    names: tuple[tuple[str, str], ...] = ()
    flat: bool = False  # the fields of text_config beside the others
    one_file: bool = (
        False  # the settings of the pictures inside those of prompts, as transformers 5 writes them
    )
    channels_last: bool = False  # kernels of convolutions, as MLX writes them
    seed: int = 0

    @property
    def package(self) -> str:
        """transformers' module of the picture processor."""
        return {
            "Qwen2VL": "qwen2_vl",
            "Gemma3": "gemma3",
            "Idefics3": "idefics3",
            "SmolVLM": "smolvlm",
            "Pixtral": "pixtral",
        }[self.image_processor.removesuffix("ImageProcessorPil")]

    @property
    def token_types(self) -> str | None:
        """The input by which transformers knows the rows of pictures."""
        return {"qwen2_vl": "mm_token_type_ids", "gemma3": "token_type_ids"}.get(self.package)

    @property
    def tile(self) -> int:
        """Rows that a tile of Idefics 3 becomes."""
        side = self.processor["max_image_size"]["longest_edge"]
        return (side // self.config["vision_config"]["patch_size"] // self.config["scale_factor"]) ** 2

    def rows(self, prepared: Mapping[str, Any]) -> list[int]:
        """Of each picture that transformers' processor has prepared."""
        if self.package == "gemma3":
            return [self.config["mm_tokens_per_image"]] * len(prepared.get("pixel_values", ()))
        if self.package == "pixtral":
            unit = self.processor["patch_size"]["height"]
            return [
                int(height) // unit * (int(width) // unit)
                for height, width in prepared.get("image_sizes", ())
            ]
        if self.package in ("idefics3", "smolvlm"):
            tiles = zip(prepared.get("rows", [[]])[0], prepared.get("cols", [[]])[0], strict=True)
            return [self.tile * (rows * columns + 1) for rows, columns in tiles]
        grids = prepared.get("image_grid_thw", ())
        return [int(grid.prod()) // self.processor["merge_size"] ** 2 for grid in grids]


def picture(size: Size) -> Image.Image:
    """Smooth and noisy, so that resampling matters."""
    width, height = size
    random = np.random.default_rng(width * 1000 + height)
    slope = np.linspace(0, 200, width)[None, :, None] * np.linspace(0, 1, height)[:, None, None]
    noise = random.integers(0, 56, (height, width, 3))
    return Image.fromarray((slope + noise).astype(np.uint8))


def qwen2_5_vl(text: Fields = NO_CHANGES, vision: Fields = NO_CHANGES, **top: Any) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": 83, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3,
            "num_key_value_heads": 1, "max_position_embeddings": 512, "rms_norm_eps": 3e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "mrope_section": [2, 3, 3]},
        } | dict(text),
        "vision_config": {
            "depth": 3, "hidden_size": 40, "intermediate_size": 28, "num_heads": 2, "patch_size": 6, "window_size": 36,
            "out_hidden_size": 48, "fullatt_block_indexes": [1],
        } | dict(vision),
        "image_token_id": 77, "video_token_id": 78, "vision_start_token_id": 79, "vision_end_token_id": 80,
        "tie_word_embeddings": False,
    } | top  # fmt: skip


def qwen3_vl(text: Fields = NO_CHANGES, vision: Fields = NO_CHANGES, **top: Any) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": 83, "hidden_size": 44, "intermediate_size": 36, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 14, "max_position_embeddings": 512, "rms_norm_eps": 3e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 3e4, "mrope_section": [3, 2, 2], "mrope_interleaved": True},
        } | dict(text),
        "vision_config": {
            "depth": 4, "hidden_size": 24, "intermediate_size": 28, "num_heads": 2, "patch_size": 6, "out_hidden_size": 44,
            "num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2],
        } | dict(vision),
        "image_token_id": 77, "video_token_id": 78, "vision_start_token_id": 79, "vision_end_token_id": 80,
        "tie_word_embeddings": False,
    } | top  # fmt: skip


def gemma3(text: Fields = NO_CHANGES, vision: Fields = NO_CHANGES, **top: Any) -> dict[str, Any]:
    return {
        "text_config": {
            "vocab_size": 91, "hidden_size": 40, "intermediate_size": 52, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 12, "query_pre_attn_scalar": 20, "rms_norm_eps": 2e-5, "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "max_position_embeddings": 512,
        } | dict(text),
        "vision_config": {
            "hidden_size": 36, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 24,
            "patch_size": 4, "layer_norm_eps": 1e-5, "vision_use_head": False, "model_type": "siglip_vision_model",
        } | dict(vision),
        "mm_tokens_per_image": 9, "image_token_index": 95, "boi_token_index": 88, "eoi_token_index": 89,
        "tie_word_embeddings": True,
    } | top  # fmt: skip


def idefics3(text: Fields = NO_CHANGES, vision: Fields = NO_CHANGES, **top: Any) -> dict[str, Any]:
    return {
        "text_config": {
            "model_type": "llama", "vocab_size": 83, "hidden_size": 40, "intermediate_size": 36, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 3e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 3e4}, "pad_token_id": 0,
        } | dict(text),
        "vision_config": {
            "hidden_size": 36, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 24,
            "patch_size": 4, "layer_norm_eps": 1e-5,
        } | dict(vision),
        "image_token_id": 77, "scale_factor": 3, "tie_word_embeddings": False,
    } | top  # fmt: skip


MINISTRAL_ROPE = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 32, "beta_fast": 32.0,
    "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip


def mistral3(text: Fields = NO_CHANGES, vision: Fields = NO_CHANGES, **top: Any) -> dict[str, Any]:
    return {
        "text_config": {
            "model_type": "mistral", "vocab_size": 83, "hidden_size": 44, "intermediate_size": 36, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 14, "max_position_embeddings": 512, "rms_norm_eps": 3e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 3e4}, "sliding_window": None,
        } | dict(text),
        "vision_config": {
            "model_type": "pixtral", "hidden_size": 36, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 3,
            "image_size": 60, "patch_size": 5,
        } | dict(vision),
        "image_token_index": 77, "spatial_merge_size": 2, "tie_word_embeddings": False,
    } | top  # fmt: skip


def qwen_pixels(**changes: Any) -> dict[str, Any]:
    return {
        "patch_size": 6,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "min_pixels": 900,
        "max_pixels": 3000,
    } | changes


# As MLX-VLM writes them.
MLX_QWEN = (
    ("model.visual.", "vision_tower."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)
MLX_IDEFICS = (
    ("model.vision", "vision"),
    ("model.connector.", "connector."),
    ("model.text_model.", "language_model."),
    ("lm_head.", "language_model.lm_head."),
)

CASES: dict[str, Case] = {
    "qwen2.5-vl": Case(
        "Qwen2_5_VLForConditionalGeneration", qwen2_5_vl(), qwen_pixels(), "Qwen2VLImageProcessorPil",
    ),
    "qwen2.5-vl-other": Case(
        "Qwen2_5_VLForConditionalGeneration",
        qwen2_5_vl(
            {"num_key_value_heads": 3, "num_hidden_layers": 2, "hidden_size": 60, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 4]}},
            {"depth": 2, "hidden_act": "gelu", "spatial_merge_size": 3, "temporal_patch_size": 3, "patch_size": 4,
             "window_size": 24, "hidden_size": 24, "out_hidden_size": 60, "fullatt_block_indexes": [0]},
            tie_word_embeddings=True,
        ),
        qwen_pixels(patch_size=4, merge_size=3, temporal_patch_size=3, min_pixels=200, max_pixels=4000, resample=2,
                    image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.5]),
        "Qwen2VLImageProcessorPil", names=(("model.visual.", "visual."), ("model.language_model.", "model.")), flat=True, seed=3,
    ),
    "qwen3-vl": Case(
        "Qwen3VLForConditionalGeneration", qwen3_vl(), qwen_pixels(image_mean=[0.5] * 3, image_std=[0.5] * 3), "Qwen2VLImageProcessorPil",
    ),
    "qwen3-vl-other": Case(
        "Qwen3VLForConditionalGeneration",
        qwen3_vl({"num_hidden_layers": 3, "head_dim": 10, "rope_parameters": {"rope_type": "default", "rope_theta": 2e3, "mrope_section": [1, 2, 1]}},
                 {"deepstack_visual_indexes": [3, 1, 2], "num_position_embeddings": 49, "hidden_act": "silu", "spatial_merge_size": 3,
                  "temporal_patch_size": 1, "patch_size": 5, "num_heads": 3}, tie_word_embeddings=True),
        {"patch_size": 5, "merge_size": 3, "temporal_patch_size": 1, "size": {"shortest_edge": 700, "longest_edge": 4000}},
        "Qwen2VLImageProcessorPil", names=MLX_QWEN, one_file=True, channels_last=True, seed=4,
    ),
    "qwen3-vl-moe": Case(
        "Qwen3VLMoeForConditionalGeneration",
        qwen3_vl({"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "decoder_sparse_step": 1, "mlp_only_layers": [1]}),
        qwen_pixels(), "Qwen2VLImageProcessorPil", seed=8,
    ),
    "gemma3": Case(
        "Gemma3ForConditionalGeneration", gemma3(), {"size": {"height": 24, "width": 24}}, "Gemma3ImageProcessorPil",
        names=(("model.vision_tower.", "vision_tower.vision_model."), ("model.multi", "multi"), ("model.language_model.", "language_model.model.")),
    ),
    "gemma3-other": Case(
        "Gemma3ForConditionalGeneration",
        gemma3({"sliding_window": 40, "num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "vocab_size": 97},
               {"image_size": 35, "patch_size": 5, "hidden_act": "quick_gelu", "num_hidden_layers": 1, "vision_use_head": True}, mm_tokens_per_image=49),
        {"size": {"height": 35, "width": 35}, "resample": 3, "image_mean": [0.5, 0.4, 0.3], "do_normalize": False}, "Gemma3ImageProcessorPil", channels_last=True, seed=5,
    ),
    "idefics3": Case(
        "Idefics3ForConditionalGeneration", idefics3(), {"size": {"longest_edge": 60}, "max_image_size": {"longest_edge": 24}}, "Idefics3ImageProcessorPil",
    ),
    "smolvlm": Case(
        "SmolVLMForConditionalGeneration",
        idefics3({"hidden_size": 48, "tie_word_embeddings": True}, {"image_size": 30, "patch_size": 5, "hidden_act": "gelu"}, scale_factor=2, tie_word_embeddings=True),
        {"size": {"longest_edge": 50}, "max_image_size": {"longest_edge": 22}, "resample": 2, "image_mean": [0.4, 0.5, 0.6]},
        "SmolVLMImageProcessorPil", seed=6,
    ),
    "smolvlm-whole": Case(
        "SmolVLMForConditionalGeneration", idefics3(scale_factor=2),
        {"size": {"longest_edge": 70}, "max_image_size": {"longest_edge": 24}, "do_image_splitting": False}, "SmolVLMImageProcessorPil",
        names=MLX_IDEFICS, one_file=True, channels_last=True, seed=7,
    ),
    "mistral3": Case(
        "Mistral3ForConditionalGeneration", mistral3(), {"size": {"longest_edge": 55}, "patch_size": {"height": 10, "width": 10}}, "PixtralImageProcessorPil", seed=9,
    ),
    "mistral3-other": Case(
        "Mistral3ForConditionalGeneration",
        mistral3({"hidden_size": 40, "model_type": "ministral3", "rope_parameters": MINISTRAL_ROPE}, {"patch_size": 4, "hidden_act": "silu", "num_attention_heads": 9, "rope_parameters": {"rope_type": "axial", "rope_theta": 300.0}},
                 spatial_merge_size=3, multimodal_projector_bias=True, projector_hidden_act="silu"),
        {"size": {"longest_edge": 50}, "patch_size": {"height": 12, "width": 12}, "resample": 2}, "PixtralImageProcessorPil",
        names=(("model.vision_tower.", "vision_tower."), ("model.multi", "multi"), ("model.language_model.", "language_model.model."), ("lm_head", "language_model.lm_head")),
        channels_last=True, seed=10,
    ),
}  # fmt: skip


def weights(shapes: Mapping[str, list[int]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Random weights of a size that keeps every layer alive, the same on every machine."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name in sorted(shapes):
        shape = shapes[name]
        value = random.standard_normal(shape)
        if len(shape) == 1:
            value = 0.1 * value + (0.0 if name.endswith("bias") else 1.0)
        elif "embed_tokens" in name:
            value *= 0.3  # louder ones lead tied heads to repeat a token
        else:
            value *= 1.3 / math.sqrt(math.prod(shape[1:]))
        tensors[name] = value.astype(np.float32)
    return tensors


def tokens_of(prompt: Prompt, rows: Sequence[int], placeholder: int) -> list[int]:
    counts = iter(rows)
    tokens: list[int] = []
    for part in prompt:
        tokens += [part] if isinstance(part, int) else [placeholder] * next(counts)
    return tokens
