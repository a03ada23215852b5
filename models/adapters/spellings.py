"""The names that trainers have for the layers of the transformers, beside those of diffusers.

A layer's path is on the left, with {} for the number of its block; on the right are the original repositories' names (BFL's,
Tongyi's), which kohya, musubi, ComfyUI, fal's trainer and ai-toolkit write, and XLabs's, which names processors. They are
compared with dots and underscores alike. No MLX.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Rows(NamedTuple):
    """A name for some rows of a layer: those of its first `parts` in the checkpoint, or of all of them, without those before
    the part `first`. `swapped`: in the file the two halves of the rows are the other way round."""

    path: str
    parts: int | None = None
    swapped: bool = False
    first: int = 0


Spellings = Mapping[str, Rows]

_DOUBLE = {
    "double_blocks.{}.img_attn.qkv": Rows("transformer_blocks.{}.attn.to_qkv"),
    "double_blocks.{}.txt_attn.qkv": Rows("transformer_blocks.{}.attn.to_added_qkv"),
    "double_blocks.{}.img_attn.proj": Rows("transformer_blocks.{}.attn.to_out.0"),
    "double_blocks.{}.txt_attn.proj": Rows("transformer_blocks.{}.attn.to_add_out"),
    "double_blocks.{}.processor.qkv_lora1": Rows("transformer_blocks.{}.attn.to_qkv"),
    "double_blocks.{}.processor.qkv_lora2": Rows("transformer_blocks.{}.attn.to_added_qkv"),
    "double_blocks.{}.processor.proj_lora1": Rows("transformer_blocks.{}.attn.to_out.0"),
    "double_blocks.{}.processor.proj_lora2": Rows("transformer_blocks.{}.attn.to_add_out"),
}
_ENDS = {
    "img_in": Rows("x_embedder"),
    "txt_in": Rows("context_embedder"),
    "final_layer.linear": Rows("proj_out"),
    "final_layer.adaLN_modulation.1": Rows("norm_out.linear", swapped=True),
}

FLUX: Spellings = {
    **_DOUBLE,
    **_ENDS,
    "double_blocks.{}.img_mlp.0": Rows("transformer_blocks.{}.ff.net.0.proj"),
    "double_blocks.{}.img_mlp.2": Rows("transformer_blocks.{}.ff.net.2"),
    "double_blocks.{}.txt_mlp.0": Rows("transformer_blocks.{}.ff_context.net.0.proj"),
    "double_blocks.{}.txt_mlp.2": Rows("transformer_blocks.{}.ff_context.net.2"),
    "double_blocks.{}.img_mod.lin": Rows("transformer_blocks.{}.norm1.linear"),
    "double_blocks.{}.txt_mod.lin": Rows("transformer_blocks.{}.norm1_context.linear"),
    "single_blocks.{}.linear1": Rows("single_transformer_blocks.{}.attn.to_qkv_mlp"),
    "single_blocks.{}.linear2": Rows("single_transformer_blocks.{}.attn.to_out_mlp"),
    "single_blocks.{}.modulation.lin": Rows("single_transformer_blocks.{}.norm.linear"),
    "single_blocks.{}.processor.qkv_lora": Rows("single_transformer_blocks.{}.attn.to_qkv_mlp", parts=3),
    "single_blocks.{}.processor.proj_lora": Rows("single_transformer_blocks.{}.attn.to_out_mlp"),
    "time_in.in_layer": Rows("time_text_embed.timestep_embedder.linear_1"),
    "time_in.out_layer": Rows("time_text_embed.timestep_embedder.linear_2"),
    "guidance_in.in_layer": Rows("time_text_embed.guidance_embedder.linear_1"),
    "guidance_in.out_layer": Rows("time_text_embed.guidance_embedder.linear_2"),
    "vector_in.in_layer": Rows("time_text_embed.text_embedder.linear_1"),
    "vector_in.out_layer": Rows("time_text_embed.text_embedder.linear_2"),
}

FLUX2: Spellings = {
    **_DOUBLE,
    **_ENDS,
    "double_blocks.{}.img_mlp.0": Rows("transformer_blocks.{}.ff.linear_in"),
    "double_blocks.{}.img_mlp.2": Rows("transformer_blocks.{}.ff.linear_out"),
    "double_blocks.{}.txt_mlp.0": Rows("transformer_blocks.{}.ff_context.linear_in"),
    "double_blocks.{}.txt_mlp.2": Rows("transformer_blocks.{}.ff_context.linear_out"),
    "single_blocks.{}.linear1": Rows("single_transformer_blocks.{}.attn.to_qkv_mlp_proj"),
    "single_blocks.{}.linear2": Rows("single_transformer_blocks.{}.attn.to_out"),
    "time_in.in_layer": Rows("time_guidance_embed.timestep_embedder.linear_1"),
    "time_in.out_layer": Rows("time_guidance_embed.timestep_embedder.linear_2"),
    "guidance_in.in_layer": Rows("time_guidance_embed.guidance_embedder.linear_1"),
    "guidance_in.out_layer": Rows("time_guidance_embed.guidance_embedder.linear_2"),
    "single_stream_modulation.lin": Rows("single_stream_modulation.linear"),
    "double_stream_modulation_img.lin": Rows("double_stream_modulation_img.linear"),
    "double_stream_modulation_txt.lin": Rows("double_stream_modulation_txt.linear"),
}


def _one_by_one(names: Iterable[str], path: str) -> dict[str, Rows]:
    """Names for the parts of a layer, each for one."""
    return {name: Rows(path, index + 1, first=index) for index, name in enumerate(names)}


FLUX3: Spellings = {
    f"{theirs}.{name}": rows
    for theirs, ours in (
        ("single_blocks.{}", "single_transformer_blocks.{}"),
        ("txt_mode_blocks.{}", "txt_mode_blocks.{}"),
        ("content_mode_blocks.image.{}", "mode_blocks.image.{}"),
        ("content_mode_blocks.image_cond.{}", "mode_blocks.image_cond.{}"),
    )
    for name, rows in {
        **_one_by_one(("q_proj", "k_proj", "v_proj", "mlp_in"), f"{ours}.to_qkv_mlp"),
        "attn_out": Rows(f"{ours}.attn.to_out.0"),
        "mlp_out": Rows(f"{ours}.ff.linear_out"),
    }.items()
}

KREA2: Spellings = {
    **{
        f"{theirs}.{name}": rows
        for theirs, ours in (
            ("blocks.{}", "transformer_blocks.{}"),
            ("txtfusion.layerwise_blocks.{}", "text_fusion.layerwise_blocks.{}"),
            ("txtfusion.refiner_blocks.{}", "text_fusion.refiner_blocks.{}"),
        )
        for name, rows in {
            **_one_by_one(("attn.wq", "attn.wk", "attn.wv", "attn.gate"), f"{ours}.attn.to_qkv_gate"),
            **_one_by_one(("mlp.gate", "mlp.up"), f"{ours}.ff.gate_up"),
            "attn.wo": Rows(f"{ours}.attn.to_out.0"),
            "mlp.down": Rows(f"{ours}.ff.down"),
        }.items()
    },
    "first": Rows("img_in"),
    "last.linear": Rows("final_layer.linear"),
    "tmlp.0": Rows("time_embed.linear_1"),
    "tmlp.2": Rows("time_embed.linear_2"),
    "tproj.1": Rows("time_mod_proj"),
    "txtmlp.1": Rows("txt_in.linear_1"),
    "txtmlp.3": Rows("txt_in.linear_2"),
    "txtfusion.projector": Rows("text_fusion.projector"),
}

_BLOCKS = ("layers", "noise_refiner", "context_refiner")
Z_IMAGE: Spellings = {
    **{f"{block}.{{}}.attention.qkv": Rows(f"{block}.{{}}.attention.to_qkv") for block in _BLOCKS},
    **{f"{block}.{{}}.attention.out": Rows(f"{block}.{{}}.attention.to_out.0") for block in _BLOCKS},
    # One tool writes the underscore of to_q as a dot: dots and underscores are alike.
    "x_embedder": Rows("all_x_embedder.2-1"),
    "final_layer.linear": Rows("all_final_layer.2-1.linear"),
    "final_layer.adaLN_modulation.1": Rows("all_final_layer.2-1.adaLN_modulation.1"),
}

# What tells a foreign adapter's model, by a piece of a layer's name with dots as underscores; the first that fits.
MODELS: tuple[tuple[str, str], ...] = (
    ("_down_blocks_", "Stable Diffusion"),
    ("_up_blocks_", "Stable Diffusion"),
    ("_input_blocks_", "Stable Diffusion"),
    ("_output_blocks_", "Stable Diffusion"),
    ("_joint_blocks_", "Stable Diffusion 3"),
    ("_img_mod_1_", "Qwen-Image"),
    ("_img_mlp_net_", "Qwen-Image"),
    ("_cross_attn_", "Wan"),
    ("_text_fusion_", "Krea 2"),
    ("_txtfusion_", "Krea 2"),
    ("_attn_to_gate_", "Krea 2"),
    ("_attn_wq_", "Krea 2"),
    ("_mode_blocks_", "FLUX.3"),
    ("_to_qkv_mlp_proj_", "FLUX.2"),
    ("_linear_in_", "FLUX.2"),
    ("_stream_modulation_", "FLUX.2"),
    ("_img_mod_lin_", "FLUX.1"),
    ("_modulation_lin_", "FLUX.1"),
    ("_proj_mlp_", "FLUX.1"),
    ("_norm1_linear_", "FLUX.1"),
    ("_net_0_proj_", "FLUX.1"),
    ("_single_blocks_", "FLUX"),
    ("_single_transformer_blocks_", "FLUX"),
    ("_double_blocks_", "FLUX"),
    ("_feed_forward_", "Z-Image"),
    ("_attention_to_", "Z-Image"),
    ("_attention_qkv_", "Z-Image"),
)

# Written by some exports in place of transformer_blocks.
ALIASES = {"sformer_blocks_": "transformer_blocks_"}


def plain(name: str) -> str:
    name = name.replace(".", "_")
    for alias, real in ALIASES.items():
        name = real + name.removeprefix(alias) if name.startswith(alias) else name
    return name


def guess_model(layers: Iterable[str]) -> str | None:
    """The model that layers of these names belong to."""
    names = [f"_{plain(layer)}_" for layer in layers]
    return next((model for piece, model in MODELS if any(piece in name for name in names)), None)
