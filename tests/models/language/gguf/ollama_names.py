"""What Ollama's converter makes of the names and tensors of a toy that sees."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]

# In the names of the text network's layers in transformers' files, and what Ollama has instead.
OLLAMA: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gemma3": (("vision_tower.embeddings", "v"), ("vision_tower", "v"), ("encoder.layers", "blk"), ("self_attn.q_proj", "attn_q"),
               ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.out_proj", "attn_output"),
               ("input_projection_weight", "input_projection.weight"), ("multi_modal_projector", "mm")),
    "mistral3": (("transformer.layers", "blk"), ("vision_tower", "v"), ("ln_pre", "encoder_norm"), ("attention.q_proj", "attn_q"),
                 ("attention.k_proj", "attn_k"), ("attention.v_proj", "attn_v"), ("attention.o_proj", "attn_output"),
                 ("attention_norm", "attn_norm"), ("feed_forward.gate_proj", "ffn_gate"), ("feed_forward.down_proj", "ffn_down"),
                 ("feed_forward.up_proj", "ffn_up"), ("multi_modal_projector", "mm")),
    "qwen2_5_vl": (("visual", "v"), ("blocks", "blk"), ("attn.proj", "attn_out"), ("norm1", "ln1"), ("norm2", "ln2"),
                   ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")),
    "qwen3_vl": (("visual", "v"), ("patch_embed.proj", "patch_embed"), ("blocks", "blk"), ("attn.qkv", "attn_qkv"),
                 ("attn.proj", "attn_out"), ("deepstack_merger_list", "deepstack_merger")),
}  # fmt: skip
OLLAMA |= {"qwen3_vl_moe": OLLAMA["qwen3_vl"]}
OLLAMA_ARCHITECTURES = {
    "gemma3": "gemma3", "mistral3": "mistral3", "qwen2_5_vl": "qwen25vl", "qwen3_vl": "qwen3vl", "qwen3_vl_moe": "qwen3vlmoe",
}  # fmt: skip


def ollama_tower(state: Tensors, config: Mapping[str, Any]) -> Tensors:
    found: Tensors = {}
    for name, value in state.items():
        key = name.removeprefix("model.")
        for old, new in OLLAMA[config["model_type"]]:
            key = key.replace(old, new)
        if config["model_type"] == "qwen2_5_vl" and name.endswith("patch_embed.proj.weight"):
            found |= {f"v.patch_embd_{frame}.weight": value[:, :, frame] for frame in (0, 1)}
        elif name.endswith("patch_embed.proj.weight"):
            found[key] = value.reshape(-1, *value.shape[2:])
        elif "attn.qkv" in key or "attn_qkv" in key:
            rows = np.split(value, 3)
            found |= {
                re.sub(r"attn[._]qkv", f"attn_{part}", key): each
                for part, each in zip("qkv", rows, strict=True)
            }
        else:
            found[key] = value + 1 if key == "mm.mm_soft_emb_norm.weight" else value
    return found


def in_ollama_s_words(entries: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The metadata of a text network as Ollama spells it."""
    words = {"gemma3.rope.freq_base_swa": "gemma3.rope.local.freq_base", "gemma3.rope.freq_base": "gemma3.rope.global.freq_base",
             "qwen25vl.rope.dimension_sections": "qwen25vl.rope.mrope_section",
             "mistral3.rope.scaling.yarn_beta_fast": "mistral3.rope.scaling.beta_fast",
             "mistral3.rope.scaling.yarn_beta_slow": "mistral3.rope.scaling.beta_slow",
             "mistral3.rope.scaling.yarn_log_multiplier": "mistral3.rope.scaling.mscale_all_dim",
             "mistral3.attention.temperature_scale": "mistral3.rope.scaling_beta"}  # fmt: skip
    return {words.get(key, key): value for key, value in entries.items()}
