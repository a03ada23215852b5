"""What a GGUF says of an encoder: the fields of its config.json, and the pooling of sentence-transformers."""

from collections.abc import Mapping
from typing import Any

from models.checkpoint.gguf.header import Tensor
from models.language.gguf.metadata import Metadata

# GGUF's names of the layers, and the network's.
BERT_OUTSIDE = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
BERT_LAYERS = {
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_qkv": "attention.qkv",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
NOMIC_OUTSIDE = {key: name for key, name in BERT_OUTSIDE.items() if key != "position_embd"}
NOMIC_LAYERS = {
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_output_norm": "post_attention_layernorm",
    "ffn_up": "mlp.up_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "layer_output_norm": "post_mlp_layernorm",
}
# By the numbers of `pooling_type`; without one it is the mean.
POOLING = {0: "mean", 1: "mean", 2: "cls", 3: "lasttoken"}
RANK = 4


def bert_fields(metadata: Metadata, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    positions = _rows(metadata, tensors, "position_embd.weight")
    return {
        **_common(metadata, tensors),
        "hidden_act": "gelu",
        "max_position_embeddings": positions,
    }


def nomic_fields(metadata: Metadata, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    rope = metadata.rope()
    if rope["rope_type"] != "default" or "partial_rotary_factor" in rope:
        raise metadata.refused("its rotation is scaled or partial, which is not supported for an encoder")
    return {
        **_common(metadata, tensors),
        "hidden_act": "silu",
        "max_position_embeddings": metadata.context,
        "rope_parameters": rope,
    }


def _common(metadata: Metadata, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    if metadata.values.get(f"{metadata.architecture}.attention.causal"):
        raise metadata.refused("its attention is causal, which that of an encoder is not")
    return {
        "hidden_size": metadata.count("embedding_length"),
        "num_hidden_layers": metadata.count("block_count"),
        "num_attention_heads": metadata.count("attention.head_count"),
        "intermediate_size": metadata.count("feed_forward_length"),
        "layer_norm_eps": metadata.number("attention.layer_norm_epsilon", 1e-12),
        "type_vocab_size": _rows(metadata, tensors, "token_types.weight"),
        "vocab_size": _rows(metadata, tensors, "token_embd.weight"),
    }


def _rows(metadata: Metadata, tensors: Mapping[str, Tensor], key: str) -> int:
    if key not in tensors:
        raise metadata.refused(f"it has no tensor {key}")
    return tensors[key].shape[0]


def pooling_files(metadata: Metadata) -> dict[str, Any]:
    """The files of a sentence-transformers checkpoint that pools as this one."""
    kind = metadata.whole("pooling_type", 1)
    if kind == RANK:
        raise metadata.refused(
            "it is a reranker (its pooling_type is 4), which does not run from a GGUF here"
        )
    if kind not in POOLING:
        raise metadata.refused(f"its pooling_type is {kind}; {', '.join(map(str, POOLING))} are supported")
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listing = [
        {"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in modules.items()
    ]
    return {"modules.json": listing, "1_Pooling/config.json": {"pooling_mode": POOLING[kind]}}
