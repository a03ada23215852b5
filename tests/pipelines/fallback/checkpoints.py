"""Toy checkpoints of families that Diptych has no pipeline for, made by diffusers' own classes and saved by them."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.files import LocalModel
from tests.pipelines import toys

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

Parts = dict[str, Any]


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="diptych-fallback-")


@functools.cache
def toy(name: str) -> LocalModel:
    """Made once, for all tests that only read it: one of MADE, or of the families with pipelines of our own."""
    folder = Path(_scratch().name) / name.replace(" ", "-")
    return make(name, folder) if name in MADE else toys.write(name, folder)


def make(name: str, folder: Path) -> LocalModel:
    torch.manual_seed(1)
    class_name, parts = MADE[name]
    getattr(diffusers, class_name)(**parts()).save_pretrained(folder)
    return toys.local(folder, name)


def pipeline_name(name: str) -> str:
    return MADE[name][0] if name in MADE else toys.TOYS[name].pipeline


def _tokenizer(kind: str) -> Any:
    folder = toys.REFERENCES / "tokenizers" / kind
    return transformers.AutoTokenizer.from_pretrained(folder)


def _clip(hidden: int, projected: bool) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=730, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=hidden, bos_token_id=0, eos_token_id=723, pad_token_id=1,
    )  # fmt: skip
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def _vae(latents: int) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(6, 12), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latents, norm_num_groups=3, layers_per_block=1, sample_size=32, shift_factor=0.1,
    )  # fmt: skip


def _sd() -> Parts:
    """With the class of a component that only diffusers' own folder of this pipeline has."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    checker = diffusers.pipelines.stable_diffusion.safety_checker.StableDiffusionSafetyChecker(
        transformers.CLIPConfig(vision_config=vision.to_dict(), projection_dim=8)
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
    )  # fmt: skip
    return {
        "unet": unet,
        "vae": _vae(4),
        "text_encoder": _clip(16, projected=False),
        "tokenizer": _tokenizer("clip"),
        "scheduler": diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        "safety_checker": checker,
        "feature_extractor": transformers.CLIPImageProcessorPil(size=32, crop_size=32),
    }


def _sdxl() -> Parts:
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, norm_num_groups=4, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=6 * 8 + 20, cross_attention_dim=36,
    )  # fmt: skip
    return {
        "unet": unet,
        "vae": _vae(4),
        "text_encoder": _clip(16, projected=False),
        "text_encoder_2": _clip(20, projected=True),
        "tokenizer": _tokenizer("clip"),
        "tokenizer_2": _tokenizer("clip"),
        "scheduler": diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading"
        ),
    }


def _sd3() -> Parts:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=40,
        caption_projection_dim=16, pooled_projection_dim=36, out_channels=4,
    )  # fmt: skip
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=420, d_model=40, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    return {
        "transformer": transformer,
        "vae": _vae(4),
        "text_encoder": _clip(16, projected=True),
        "text_encoder_2": _clip(20, projected=True),
        "text_encoder_3": t5,
        "tokenizer": _tokenizer("clip"),
        "tokenizer_2": _tokenizer("clip"),
        "tokenizer_3": _tokenizer("t5"),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def _qwen_image() -> Parts:
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False], latents_mean=[0.1] * 4,
        latents_std=[2.0] * 4,
    )  # fmt: skip
    words = {
        "vocab_size": 420, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    eyes = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(text_config=words, vision_config=eyes)
    return {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(config),
        "tokenizer": _tokenizer("qwen"),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def _pixart() -> Parts:
    """An older pipeline: it reports its steps in another way."""
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=32, in_channels=4, out_channels=8, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        cross_attention_dim=16, caption_channels=40, norm_type="ada_norm_single",
    )  # fmt: skip
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=420, d_model=40, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    return {
        "transformer": transformer,
        "vae": _vae(4),
        "text_encoder": t5,
        "tokenizer": _tokenizer("t5"),
        "scheduler": diffusers.DPMSolverMultistepScheduler(),
    }


MADE: dict[str, tuple[str, Callable[[], Parts]]] = {
    "sd": ("StableDiffusionPipeline", _sd),
    "sdxl": ("StableDiffusionXLPipeline", _sdxl),
    "sd3": ("StableDiffusion3Pipeline", _sd3),
    "qwen image": ("QwenImagePipeline", _qwen_image),
    "pixart": ("PixArtSigmaPipeline", _pixart),
}
