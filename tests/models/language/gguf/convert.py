"""A checkpoint of transformers as the GGUF that llama.cpp's converter writes of it: names, metadata, and what it does to the
tensors. Written here a second time, from the format's side, so that reading it can be wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.gguf_files import Stored, stored, write_gguf

# transformers' model types, and what GGUF calls them.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen2_moe": "qwen2moe",
    "qwen3": "qwen3", "qwen3_moe": "qwen3moe", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3",
    "phi3": "phi3",
}  # fmt: skip
COMMON = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv", "input_layernorm": "attn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
ONE_NORM = {"post_attention_layernorm": "ffn_norm"}
TWO_NORMS = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str, model_type: str) -> str:
    """GGUF's name of a weight that is not one of stacked experts."""
    layer, _, kind = name.rpartition(".")
    if layer in TOP:
        return f"{TOP[layer]}.{kind}"
    _, _, number, rest = layer.split(".", 3)
    norms = TWO_NORMS if model_type in ("gemma2", "gemma3_text") else ONE_NORM
    return f"blk.{number}.{ {**COMMON, **norms}[rest] }.{kind}"


def tensors(state: Mapping[str, Any], config: Any, kind: str = "F32") -> dict[str, Stored]:
    """`kind`: the type of matrices."""
    found: dict[str, Stored] = {}
    for name, value in state.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = np.asarray(value.float() if hasattr(value, "float") else value, np.float32)
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            found |= experts(name, array, kind)
            continue
        array = converted(name, array, config)
        if name.endswith("block_sparse_moe.gate.weight"):
            name = name.replace("block_sparse_moe", "mlp")
        found[gguf_name(name, config.model_type)] = stored(array, kind if array.ndim > 1 else "F32")
    return found


def converted(name: str, array: np.ndarray, config: Any) -> np.ndarray:
    if config.model_type in ("llama", "mistral", "mixtral"):
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        count = next((count for layer, count in heads.items() if layer in name), None)
        if count is not None:
            halves = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
            return halves.swapaxes(1, 2).reshape(array.shape)
    if config.model_type.startswith("gemma") and "norm" in name:
        return array + 1
    return array[0] if name.endswith("shared_expert_gate.weight") else array


def experts(name: str, array: np.ndarray, kind: str) -> dict[str, Stored]:
    """transformers keeps gate and up of all experts in one tensor."""
    number = name.split(".")[2]
    if name.endswith("down_proj"):
        return {f"blk.{number}.ffn_down_exps.weight": stored(array, kind)}
    gate, up = np.split(array, 2, axis=1)
    return {
        f"blk.{number}.ffn_gate_exps.weight": stored(gate, kind),
        f"blk.{number}.ffn_up_exps.weight": stored(up, kind),
    }


def metadata(config: Any) -> dict[str, Any]:
    arch = ARCHITECTURES[config.model_type]
    rope = config.rope_parameters
    whole = rope.get("full_attention", rope)
    values: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(whole["rope_theta"]),
    }
    head_dim = getattr(config, "head_dim", None)
    if head_dim and head_dim * config.num_attention_heads != config.hidden_size:
        values |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    if "rope_type" in whole and whole["rope_type"] in ("linear", "yarn"):
        values |= {"rope.scaling.type": whole["rope_type"], "rope.scaling.factor": float(whole["factor"])}
        if trained := whole.get("original_max_position_embeddings"):
            values["rope.scaling.original_context_length"] = trained
    if whole.get("partial_rotary_factor", 1.0) != 1.0:
        size = head_dim or config.hidden_size // config.num_attention_heads
        values["rope.dimension_count"] = int(size * whole["partial_rotary_factor"])
    values |= SPECIAL.get(config.model_type, lambda config: {})(config)
    return {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in values.items()}}


def _gemma2(config: Any) -> dict[str, Any]:
    return {
        "attn_logit_softcapping": config.attn_logit_softcapping,
        "final_logit_softcapping": config.final_logit_softcapping,
        "attention.sliding_window": config.sliding_window,
    }


def _gemma3(config: Any) -> dict[str, Any]:
    local = float(config.rope_parameters["sliding_attention"]["rope_theta"])
    return {
        "attention.sliding_window": config.sliding_window,
        "attention.sliding_window_pattern": 2,
        "rope.freq_base_swa": local,
    }


def _experts(config: Any) -> dict[str, Any]:
    count = getattr(config, "num_local_experts", None) or config.num_experts
    values = {"expert_count": count, "expert_used_count": config.num_experts_per_tok}
    for key, name in (
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    ):
        if getattr(config, name, None):
            values[key] = getattr(config, name)
    return values


def _phi3(config: Any) -> dict[str, Any]:
    rope = config.rope_parameters
    trained = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    values = {
        "attention.sliding_window": config.sliding_window or 0,
        "rope.scaling.original_context_length": trained,
    }
    return values | (
        {"rope.scaling.attn_factor": rope["attention_factor"]} if "attention_factor" in rope else {}
    )


SPECIAL = {
    "gemma2": _gemma2, "gemma3_text": _gemma3, "phi3": _phi3, "mixtral": _experts, "qwen2_moe": _experts,
    "qwen3_moe": _experts,
}  # fmt: skip


def factors(config: Any) -> dict[str, Stored]:
    """The rotary factors, which are tensors."""
    rope = config.rope_parameters
    if rope.get("rope_type") == "longrope":
        return {
            f"rope_factors_{length}.weight": stored(rope[f"{length}_factor"]) for length in ("short", "long")
        }
    if rope.get("rope_type") == "llama3":
        plain = rope["rope_theta"] ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
        wave = 2 * np.pi / plain
        trained, factor = rope["original_max_position_embeddings"], rope["factor"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((trained / wave - low) / (high - low), 0, 1)
        return {"rope_freqs.weight": stored(1 / ((1 - smooth) / factor + smooth))}
    return {}


def write(path: Path, model: Any, vocabulary: Mapping[str, Any], kind: str = "F32", **changes: Any) -> Path:
    """`vocabulary`: the metadata of a tokenizer."""
    config = model.config
    return write_gguf(
        path,
        {**metadata(config), **changes, **vocabulary},
        {**tensors(model.state_dict(), config, kind), **factors(config)},
    )
