"""GGUF files as Ollama itself converts them: the tower of a model that sees lies beside the text network, and metadata and
tensors have other names than llama.cpp's."""

import re
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

TOWER = ("v.", "mm.")
# The projector that llama.cpp has for the tower of an architecture.
PROJECTORS = {
    "gemma3": "gemma3",
    "mistral3": "pixtral",
    "qwen25vl": "qwen2.5vl_merger",
    "qwen3vl": "qwen3vl_merger",
    "qwen3vlmoe": "qwen3vl_merger",
}
# Parts of its names of tensors, and llama.cpp's. Some are those of older files.
_RENAMED = (
    ("v.patch_embedding.", "v.patch_embd."), ("v.patch_conv.", "v.patch_embd."), ("v.patch_embed.", "v.patch_embd."),
    ("v.patch_embd_0.weight", "v.patch_embd.weight"), ("v.patch_embd_1.weight", "v.patch_embd.weight.1"),
    ("v.position_embedding.", "v.position_embd."), ("v.pos_embed.", "v.position_embd."),
    ("v.post_layernorm.", "v.post_ln."), ("v.encoder_norm.", "v.pre_ln."),
    ("v.merger.ln_q.", "v.post_ln."), ("v.merger.norm.", "v.post_ln."),
    ("v.merger.mlp.0.", "mm.0."), ("v.merger.mlp.2.", "mm.2."),
    ("v.merger.linear_fc1.", "mm.0."), ("v.merger.linear_fc2.", "mm.2."),
    (".layer_norm1.", ".ln1."), (".norm1.", ".ln1."), (".attn_norm.", ".ln1."),
    (".layer_norm2.", ".ln2."), (".norm2.", ".ln2."), (".ffn_norm.", ".ln2."),
    (".attn_output.", ".attn_out."),
    (".mlp.fc1.", ".ffn_up."), (".mlp.fc2.", ".ffn_down."),
    (".mlp.linear_fc1.", ".ffn_up."), (".mlp.linear_fc2.", ".ffn_down."),
    ("mm.mm_input_projection.", "mm.input_projection."), ("mm.mm_soft_emb_norm.", "mm.soft_emb_norm."),
    ("mm.patch_merger.merging_layer.", "mm.patch_merger."), ("mm.norm.", "mm.input_norm."),
    ("mm.linear_1.", "mm.1."), ("mm.linear_2.", "mm.2."),
)  # fmt: skip
_DEEPSTACK = re.compile(
    r"v\.deepstack(?:_merger|_merger_list)?\.(\d{1,4})\.(norm|linear_fc1|linear_fc2)\.(weight|bias)"
)
# Of the text network, by key of the architecture: other spellings, and llama.cpp's.
_SPELLINGS = {
    "gemma3": {"rope.global.freq_base": "rope.freq_base", "rope.local.freq_base": "rope.freq_base_swa"},
    "mistral3": {
        "rope.scaling.beta_fast": "rope.scaling.yarn_beta_fast",
        "rope.scaling.beta_slow": "rope.scaling.yarn_beta_slow",
        "rope.scaling.mscale_all_dim": "rope.scaling.yarn_log_multiplier",
        "rope.scaling_beta": "attention.temperature_scale",
    },
    "qwen25vl": {"rope.mrope_section": "rope.dimension_sections"},
}
# Gemma 3 was trained with 16k tokens; files of Ollama leave out how it was stretched to more.
_STRETCHED_FROM = 131_072


def has_tower(metadata: Mapping[str, Any], tensors: Iterable[str]) -> bool:
    """Whether a file has the tower beside the text network."""
    return metadata.get("general.architecture") != "clip" and any(key.startswith(TOWER) for key in tensors)


def text_metadata(values: Mapping[str, Any], tensors: Iterable[str]) -> Mapping[str, Any]:
    """The metadata with what llama.cpp would have written of the text network."""
    name = str(values.get("general.architecture"))
    spelled = {
        f"{name}.{key}": values[f"{name}.{other}"]
        for other, key in _SPELLINGS.get(name, {}).items()
        if f"{name}.{other}" in values
    }
    if name == "gemma3" and has_tower(values, tensors):
        spelled.setdefault("gemma3.rope.freq_base", 1_000_000.0)
        context = values.get("gemma3.context_length")
        if isinstance(context, int) and context >= _STRETCHED_FROM:
            spelled |= {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    if name == "mistral3" and values.get("tokenizer.ggml.pre", "default") == "default":
        return {**spelled, **values, "tokenizer.ggml.pre": "tekken"}
    return {**spelled, **values} if spelled else values


def clip_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """What llama.cpp would have written of the tower."""
    name = str(values.get("general.architecture"))
    prefix = f"{name}.vision."
    clip = {
        f"clip.vision.{key.removeprefix(prefix)}": value
        for key, value in values.items()
        if key.startswith(prefix)
    }
    for key, other in (
        ("image_min_pixels", f"{prefix}shortest_edge"),
        ("image_max_pixels", f"{prefix}longest_edge"),
        ("spatial_merge_size", f"{name}.spatial_merge_size"),
        ("projection_dim", f"{name}.embedding_length"),
        ("tokens_per_image", f"{name}.mm.tokens_per_image"),
    ):
        if other in values:
            clip.setdefault(f"clip.vision.{key}", values[other])
    clip["clip.use_silu"] = name == "mistral3"
    projector = PROJECTORS.get(name, name)
    return {"general.architecture": "clip", "clip.projector_type": projector, **clip}


def clip_names(values: Mapping[str, Any], tensors: Iterable[str]) -> dict[str, str]:
    """llama.cpp's names of the tower's tensors, and those in the file."""
    stated = values.get(f"{values.get('general.architecture')}.vision.deepstack_visual_indexes")
    blocks = list(stated) if isinstance(stated, array) else []
    return {_clip_name(key, blocks): key for key in tensors if key.startswith(TOWER)}


def _clip_name(key: str, blocks: list[int]) -> str:
    deep = _DEEPSTACK.fullmatch(key)
    if deep is not None and int(deep[1]) < len(blocks):
        return f"v.deepstack.{blocks[int(deep[1])]}.{deep[2].removeprefix('linear_')}.{deep[3]}"
    for old, new in _RENAMED:
        key = key.replace(old, new)
    return key
