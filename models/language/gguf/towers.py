"""The projectors of llama.cpp that Diptych has a tower for: their tensors, and what their metadata says, as a checkpoint of
transformers has both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.checkpoint.gguf.header import Tensor
from models.language.gguf.metadata import Metadata

Tensors = Mapping[str, Tensor]
Fields = Callable[[Metadata, Tensors], dict[str, Any]]

_SIGLIP = {
    "ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
}  # fmt: skip
_SIGLIP_OUTSIDE = {
    "v.patch_embd": "embeddings.patch_embedding",
    "v.position_embd": "embeddings.position_embedding",
    "v.post_ln": "post_layernorm",
}
_PIXTRAL = {
    "ln1": "attention_norm", "ln2": "ffn_norm", "attn_q": "attention.q_proj", "attn_k": "attention.k_proj",
    "attn_v": "attention.v_proj", "attn_out": "attention.o_proj", "ffn_gate": "feed_forward.gate_proj",
    "ffn_up": "feed_forward.up_proj", "ffn_down": "feed_forward.down_proj",
}  # fmt: skip
_QWEN = {
    "ln1": "norm1", "ln2": "norm2", "attn_q": "attn.q", "attn_k": "attn.k", "attn_v": "attn.v", "attn_qkv": "attn.qkv",
    "attn_out": "attn.proj",
}  # fmt: skip
# One kernel for each of two frames; the tower joins them.
_SECOND_FRAME = {"v.patch_embd.weight.1": "visual.patch_embed.proj.weight.1"}


@dataclass(frozen=True)
class Tower:
    """`models`: the model type, by GGUF's architecture of the text network. `outside`: names of layers outside of blocks;
    `whole`: names of whole tensors; `unused`: tensors that are left alone. `pairs`: the rows of q and k lie in pairs.
    `tokens`: of a prompt, the one that stands for a row of a picture first; `added`: that one may be missing in the file."""

    models: Mapping[str, str]
    class_name: str
    blocks: str
    layers: Mapping[str, str]
    outside: Mapping[str, str]
    vision: Fields
    pixels: Fields
    fields: Fields
    tokens: tuple[str, ...]
    whole: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    pairs: bool = False
    added: bool = False
    plus_one: tuple[str, ...] = ()
    deepstack: str = ""


def _sizes(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {
        "hidden_size": metadata.count("vision.embedding_length"),
        "num_hidden_layers": metadata.blocks("vision.block_count", len(tensors)),
        "num_attention_heads": metadata.count("vision.attention.head_count"),
        "patch_size": metadata.count("vision.patch_size"),
    }


def _siglip(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {
        **_sizes(metadata, tensors),
        "intermediate_size": metadata.count("vision.feed_forward_length"),
        "image_size": metadata.count("vision.image_size"),
        "layer_norm_eps": metadata.number("vision.attention.layer_norm_epsilon", 1e-6),
        "hidden_act": "gelu_pytorch_tanh",
    }


def _pixtral(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {
        **_sizes(metadata, tensors),
        "intermediate_size": metadata.count("vision.feed_forward_length"),
        "hidden_act": "silu" if metadata.values.get("clip.use_silu") is True else "gelu",
        "rope_theta": metadata.number("vision.rope.freq_base", 10_000.0),
    }


def _qwen(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    sizes = _sizes(metadata, tensors)
    up = tensors.get("v.blk.0.ffn_up.weight")
    return {
        "hidden_size": sizes["hidden_size"],
        "depth": sizes["num_hidden_layers"],
        "num_heads": sizes["num_attention_heads"],
        "patch_size": sizes["patch_size"],
        "intermediate_size": metadata.count("vision.feed_forward_length", up.shape[0] if up else None),
        "spatial_merge_size": metadata.count("vision.spatial_merge_size", 2),
        "temporal_patch_size": metadata.count("vision.temporal_patch_size", 2),
        "out_hidden_size": metadata.count("vision.projection_dim"),
    }


def _qwen25(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    fields = _qwen(metadata, tensors)
    blocks = metadata.wholes("vision.fullatt_block_indexes", [])
    if not blocks:
        every = metadata.count("vision.n_wa_pattern", 8)
        blocks = [at for at in range(fields["depth"]) if (at + 1) % every == 0]
    window = metadata.count("vision.window_size", 8 * fields["patch_size"])
    return {**fields, "hidden_act": "silu", "fullatt_block_indexes": blocks, "window_size": window}


def _qwen3(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    positions = tensors.get("v.position_embd.weight")
    return {
        **_qwen(metadata, tensors),
        "hidden_act": "gelu_pytorch_tanh",
        "num_position_embeddings": positions.shape[0] if positions else 0,
        "deepstack_visual_indexes": deepstack_blocks(metadata),
    }


def deepstack_blocks(metadata: Metadata) -> list[int]:
    marks = metadata.values.get("clip.vision.is_deepstack_layers")
    if isinstance(marks, list):
        return [block for block, marked in enumerate(marks) if marked]
    return sorted(metadata.wholes("vision.deepstack_visual_indexes", []))


def _colours(metadata: Metadata, middle: tuple[float, ...], spread: tuple[float, ...]) -> dict[str, Any]:
    return {
        "image_mean": metadata.numbers("vision.image_mean", middle),
        "image_std": metadata.numbers("vision.image_std", spread),
    }


_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _square(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    side = metadata.count("vision.image_size")
    return {"size": {"height": side, "width": side}, **_colours(metadata, _HALF, _HALF)}


def _any_shape(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    size = {"longest_edge": metadata.count("vision.image_size")}
    return {"size": size, **_colours(metadata, _CLIP_MEAN, _CLIP_STD)}


def _tiles(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    side = metadata.count("vision.image_size")
    return {
        "size": {"longest_edge": metadata.count("vision.preproc_image_size", 4 * side)},
        "max_image_size": {"longest_edge": side},
        **_colours(metadata, _HALF, _HALF),
    }


def _patches(least: int, most: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Fields:
    """The sizes are those of the checkpoints, in pixels, where the file leaves them out."""

    def pixels(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
        return {
            "patch_size": metadata.count("vision.patch_size"),
            "merge_size": metadata.count("vision.spatial_merge_size", 2),
            "temporal_patch_size": metadata.count("vision.temporal_patch_size", 2),
            "min_pixels": metadata.count("vision.image_min_pixels", least),
            "max_pixels": metadata.count("vision.image_max_pixels", most),
            **_colours(metadata, mean, std),
        }

    return pixels


def _gemma_fields(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    side = metadata.count("vision.image_size") // metadata.count("vision.patch_size")
    rows = (side // metadata.count("vision.projector.scale_factor", 4)) ** 2
    return {"mm_tokens_per_image": metadata.count("vision.tokens_per_image", rows)}


def _mistral_fields(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {
        "spatial_merge_size": metadata.count("vision.spatial_merge_size", 2),
        "multimodal_projector_bias": "mm.1.bias" in tensors,
        "projector_hidden_act": "gelu",
    }


def _idefics_fields(metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {"scale_factor": metadata.count("vision.projector.scale_factor", 2)}


def _prefixed(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    return {key: prefix + name for key, name in names.items()}


_QWEN_TOKENS = ("<|image_pad|>", "<|vision_start|>", "<|vision_end|>")

TOWERS: Mapping[str, Tower] = {
    "gemma3": Tower(
        {"gemma3": "gemma3"}, "Gemma3ForConditionalGeneration", "vision_tower.encoder.layers", _SIGLIP,
        _prefixed("vision_tower.", _SIGLIP_OUTSIDE) | {"mm.soft_emb_norm": "multi_modal_projector.mm_soft_emb_norm"},
        _siglip, _square, _gemma_fields, ("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
        whole={"mm.input_projection.weight": "multi_modal_projector.mm_input_projection_weight"},
        added=True, plus_one=("mm.soft_emb_norm.weight",),
    ),
    "idefics3": Tower(
        {"llama": "idefics3"}, "Idefics3ForConditionalGeneration", "model.vision_model.encoder.layers", _SIGLIP,
        _prefixed("model.vision_model.", _SIGLIP_OUTSIDE)
        | {"mm.model.fc": "model.connector.modality_projection.proj"},
        _siglip, _tiles, _idefics_fields, ("<image>", "<fake_token_around_image>", "<global-img>"),
    ),
    "pixtral": Tower(
        {"llama": "mistral3", "mistral3": "mistral3"}, "Mistral3ForConditionalGeneration",
        "vision_tower.transformer.layers", _PIXTRAL,
        {
            "v.patch_embd": "vision_tower.patch_conv", "v.pre_ln": "vision_tower.ln_pre",
            "mm.input_norm": "multi_modal_projector.norm", "mm.1": "multi_modal_projector.linear_1",
            "mm.2": "multi_modal_projector.linear_2",
            "mm.patch_merger": "multi_modal_projector.patch_merger.merging_layer",
        },
        _pixtral, _any_shape, _mistral_fields, ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        unused=("v.token_embd.img_break",), pairs=True,
    ),
    "qwen2.5vl_merger": Tower(
        {"qwen2vl": "qwen2_5_vl", "qwen25vl": "qwen2_5_vl"}, "Qwen2_5_VLForConditionalGeneration", "visual.blocks",
        _QWEN | {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"},
        {
            "v.patch_embd": "visual.patch_embed.proj", "v.post_ln": "visual.merger.ln_q",
            "mm.0": "visual.merger.mlp.0", "mm.2": "visual.merger.mlp.2",
        },
        _qwen25, _patches(56**2, 12_845_056, _CLIP_MEAN, _CLIP_STD), lambda metadata, tensors: {}, _QWEN_TOKENS,
        whole=_SECOND_FRAME,
    ),
    "qwen3vl_merger": Tower(
        {"qwen3vl": "qwen3_vl", "qwen3vlmoe": "qwen3_vl_moe"}, "Qwen3VLForConditionalGeneration", "visual.blocks",
        _QWEN | {"ffn_up": "mlp.linear_fc1", "ffn_down": "mlp.linear_fc2"},
        {
            "v.patch_embd": "visual.patch_embed.proj", "v.position_embd": "visual.pos_embed",
            "v.post_ln": "visual.merger.norm", "mm.0": "visual.merger.linear_fc1", "mm.2": "visual.merger.linear_fc2",
        },
        _qwen3, _patches(2**16, 2**24, _HALF, _HALF), lambda metadata, tensors: {}, _QWEN_TOKENS,
        whole=_SECOND_FRAME, deepstack="visual.deepstack_merger_list",
    ),
}  # fmt: skip
