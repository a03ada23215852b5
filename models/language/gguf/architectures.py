"""The architectures of a GGUF that run here, and how they differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.checkpoint.gguf.header import Tensor
from models.language.gguf.encoders import (
    BERT_LAYERS,
    BERT_OUTSIDE,
    NOMIC_LAYERS,
    NOMIC_OUTSIDE,
    bert_fields,
    nomic_fields,
)
from models.language.gguf.metadata import Metadata

# GGUF's names of the layers outside of blocks, and the network's.
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

# GGUF's names of the layers in a block, and the network's.
ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
ONE_NORM = {"ffn_norm": "post_attention_layernorm"}
TWO_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
DENSE = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def _experts(module: str) -> dict[str, str]:
    return {
        "ffn_gate_inp": f"{module}.gate",
        "ffn_gate_exps": f"{module}.switch_mlp.gate_proj",
        "ffn_up_exps": f"{module}.switch_mlp.up_proj",
        "ffn_down_exps": f"{module}.switch_mlp.down_proj",
    }


SHARED_EXPERT = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}


@dataclass(frozen=True)
class Architecture:
    """`fields` are those of config.json beyond the common ones. `pairs`: the rows of q and k lie in pairs. `plus_one`: one
    was added to the weights of all norms. `bfloat16`: trained with activations that overflow float16. `encoder`: all fields of
    the config.json of an encoder."""

    model_type: str
    class_name: str
    layers: Mapping[str, str]
    fields: Callable[[Metadata], dict[str, Any]] = lambda metadata: {}
    pairs: bool = False
    plus_one: bool = False
    bfloat16: bool = False
    outside: Mapping[str, str] = field(default_factory=lambda: OUTSIDE)
    blocks: str = "model.layers"
    encoder: Callable[[Metadata, Mapping[str, Tensor]], dict[str, Any]] | None = None


def _mixtral(metadata: Metadata) -> dict[str, Any]:
    return {
        "num_local_experts": metadata.count("expert_count"),
        "num_experts_per_tok": metadata.count("expert_used_count"),
    }


def _qwen_experts(metadata: Metadata) -> dict[str, Any]:
    return {
        "num_experts": metadata.count("expert_count"),
        "num_experts_per_tok": metadata.count("expert_used_count"),
        "moe_intermediate_size": metadata.count("expert_feed_forward_length"),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _qwen2_moe(metadata: Metadata) -> dict[str, Any]:
    shared = metadata.count("expert_shared_feed_forward_length")
    return {**_qwen_experts(metadata), "shared_expert_intermediate_size": shared, "norm_topk_prob": False}


def _qwen3_moe(metadata: Metadata) -> dict[str, Any]:
    return {**_qwen_experts(metadata), "norm_topk_prob": True}


def _gemma(metadata: Metadata) -> dict[str, Any]:
    return {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}


def _gemma_scale(metadata: Metadata, largest: int) -> float:
    """What attention divides by the root of. No file says it: the largest models of the family, which are told by their
    number of layers, have their width per head, the others the size of a head."""
    if metadata.count("block_count") == largest:
        return metadata.count("embedding_length") / metadata.count("attention.head_count")
    return metadata.head_dim


def _gemma2(metadata: Metadata) -> dict[str, Any]:
    return {
        **_gemma(metadata),
        "query_pre_attn_scalar": _gemma_scale(metadata, 46),
        "sliding_window": metadata.count("attention.sliding_window", 4096),
        "attn_logit_softcapping": metadata.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": metadata.number("final_logit_softcapping", 30.0),
    }


def _gemma3(metadata: Metadata) -> dict[str, Any]:
    """The rotation of sliding layers has a base of its own, which older files leave out, and is never scaled."""
    layers, pattern = metadata.count("block_count"), metadata.count("attention.sliding_window_pattern", 6)
    kinds = ["sliding_attention" if at % pattern else "full_attention" for at in range(1, layers + 1)]
    local = {"rope_type": "default", "rope_theta": metadata.number("rope.freq_base_swa", 10_000.0)}
    return {
        **_gemma(metadata),
        "query_pre_attn_scalar": _gemma_scale(metadata, 62),
        "sliding_window": metadata.count("attention.sliding_window"),
        "sliding_window_pattern": pattern,
        "layer_types": kinds,
        "rope_parameters": {"full_attention": metadata.rope(), "sliding_attention": local},
        "final_logit_softcapping": metadata.number("final_logit_softcapping", None),
    }


def _phi3(metadata: Metadata) -> dict[str, Any]:
    """A window of 0 stands for none."""
    trained = metadata.count("rope.scaling.original_context_length", metadata.context)
    window = metadata.whole("attention.sliding_window", 0)
    return {"sliding_window": window or None, "original_max_position_embeddings": trained}


def _ministral3(metadata: Metadata) -> dict[str, Any]:
    """Its queries grow with their position; both magnitudes of its rotation are the same, and cancel out."""
    rope = metadata.rope()
    rope["mscale"] = rope.setdefault("mscale_all_dim", 1.0)
    rope["llama_4_scaling_beta"] = metadata.number(TEMPERATURE, 0.0)
    return {"rope_parameters": rope, "sliding_window": None}


TEMPERATURE = "attention.temperature_scale"
_QWEN3 = {**ATTENTION, **HEAD_NORMS, **ONE_NORM}
_PHI3 = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    **ONE_NORM,
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
_LLAMA = Architecture("llama", "LlamaForCausalLM", {**ATTENTION, **ONE_NORM, **DENSE}, pairs=True)
_MIXTRAL = Architecture(
    "mixtral",
    "MixtralForCausalLM",
    {**ATTENTION, **ONE_NORM, **_experts("block_sparse_moe")},
    _mixtral,
    pairs=True,
)
_MISTRAL = Architecture(
    "mistral", "MistralForCausalLM", _LLAMA.layers, lambda metadata: {"sliding_window": None}, pairs=True
)
_MINISTRAL = Architecture("ministral3", "Ministral3ForCausalLM", _LLAMA.layers, _ministral3, pairs=True)
_QWEN2_DENSE = Architecture("qwen2", "Qwen2ForCausalLM", {**ATTENTION, **ONE_NORM, **DENSE}, bfloat16=True)
_QWEN3_DENSE = Architecture("qwen3", "Qwen3ForCausalLM", {**_QWEN3, **DENSE}, bfloat16=True)
_QWEN3_MOE = Architecture(
    "qwen3_moe", "Qwen3MoeForCausalLM", {**_QWEN3, **_experts("mlp")}, _qwen3_moe, bfloat16=True
)
_QWEN2_MOE = {**ATTENTION, **ONE_NORM, **_experts("mlp"), **SHARED_EXPERT}

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "mistral3": _MISTRAL,
    "qwen2": _QWEN2_DENSE,
    # Of models that see; without their towers they are the same networks.
    "qwen2vl": _QWEN2_DENSE,
    "qwen25vl": _QWEN2_DENSE,
    "qwen2moe": Architecture("qwen2_moe", "Qwen2MoeForCausalLM", _QWEN2_MOE, _qwen2_moe, bfloat16=True),
    "qwen3": _QWEN3_DENSE,
    "qwen3vl": _QWEN3_DENSE,
    "qwen3moe": _QWEN3_MOE,
    "qwen3vlmoe": _QWEN3_MOE,
    "gemma": Architecture(
        "gemma", "GemmaForCausalLM", {**ATTENTION, **ONE_NORM, **DENSE}, _gemma, plus_one=True, bfloat16=True
    ),
    "gemma2": Architecture(
        "gemma2", "Gemma2ForCausalLM", {**ATTENTION, **TWO_NORMS, **DENSE}, _gemma2, plus_one=True, bfloat16=True
    ),
    "gemma3": Architecture(
        "gemma3_text", "Gemma3ForCausalLM", {**ATTENTION, **HEAD_NORMS, **TWO_NORMS, **DENSE}, _gemma3,
        plus_one=True, bfloat16=True,
    ),
    "phi3": Architecture("phi3", "Phi3ForCausalLM", _PHI3, _phi3),
    "bert": Architecture(
        "bert", "BertModel", BERT_LAYERS, outside=BERT_OUTSIDE, blocks="encoder.layer", encoder=bert_fields
    ),
    "nomic-bert": Architecture(
        "nomic_bert", "NomicBertModel", NOMIC_LAYERS, outside=NOMIC_OUTSIDE, blocks="layers", encoder=nomic_fields
    ),
}  # fmt: skip


def architecture_of(metadata: Metadata) -> Architecture:
    """The architecture that a file names. Mistral's models are llamas to GGUF, and so are those with Mixtral's experts."""
    name = metadata.architecture
    if name == "clip":
        raise metadata.refused(
            "it is what a model sees pictures with, not a model; name the model's file, or a folder with both"
        )
    if name not in ARCHITECTURES:
        raise metadata.refused(
            f"its architecture is {name[:80]!r}, which does not run from a GGUF here; these do: {', '.join(ARCHITECTURES)}"
        )
    if name == "llama" and metadata.whole("expert_count", 0):
        return _MIXTRAL
    if name == "mistral3" and metadata.number(TEMPERATURE, None) is not None:
        return _MINISTRAL
    return ARCHITECTURES[name]
