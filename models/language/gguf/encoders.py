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
    "cls": "pooler.dense",
    "cls.output": "classifier",
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
NOMIC_OUTSIDE = {key: name for key, name in BERT_OUTSIDE.items() if key.startswith("token")}
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
HEAD = ("cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias")


def bert_fields(metadata: Metadata, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    positions = _rows(metadata, tensors, "position_embd.weight")
    return {
        **_common(metadata, tensors),
        "hidden_act": "gelu",
        "max_position_embeddings": positions,
        **(_classifier(metadata, tensors) if metadata.whole("pooling_type", 1) == RANK else {}),
    }


def _classifier(metadata: Metadata, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Of a reranker. What it computes of the first token is that of BERT's classifier; so is RoBERTa's, by other names."""
    missing = [key for key in HEAD if key not in tensors]
    if missing:
        raise metadata.refused(
            f"it is a reranker (its pooling_type is {RANK}) without {', '.join(missing)}, so that its scores would not be those "
            "of the model that it was made from"
        )
    return {
        "architectures": ["BertForSequenceClassification"],
        "num_labels": tensors["cls.output.weight"].shape[0],
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
    if kind == RANK and metadata.architecture == "bert":
        return {}
    if kind == RANK:
        raise metadata.refused(
            f"it is a reranker (its pooling_type is {RANK}); of those, the architecture bert runs from a GGUF"
        )
    if kind not in POOLING:
        raise metadata.refused(f"its pooling_type is {kind}; {', '.join(map(str, POOLING))} are supported")
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listing = [
        {"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in modules.items()
    ]
    return {"modules.json": listing, "1_Pooling/config.json": {"pooling_mode": POOLING[kind]}}
