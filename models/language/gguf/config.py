"""A GGUF's metadata as the config.json of the same model."""

from collections.abc import Mapping
from typing import Any

from models.checkpoint.gguf.header import Tensor
from models.checkpoint.gguf.types import BF16, F16, GROUP
from models.language.gguf.architectures import Architecture
from models.language.gguf.metadata import Metadata

EMBEDDING, HEAD = "token_embd.weight", "output.weight"


def config_json(
    metadata: Metadata, architecture: Architecture, tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, Any]:
    """`names` are those of the tensors in the network."""
    if EMBEDDING not in tensors:
        raise metadata.refused(f"it has no tensor {EMBEDDING}")
    if architecture.encoder is not None:
        config = {
            "architectures": [architecture.class_name],
            "model_type": architecture.model_type,
            "dtype": half_precision(architecture, tensors),
            **architecture.encoder(metadata, tensors),
        }
        return _with_quantization(config, tensors, names)
    layers = metadata.blocks("block_count", len(tensors))
    heads = metadata.count("attention.head_count")
    rope = metadata.rope()
    config = {
        "architectures": [architecture.class_name],
        "model_type": architecture.model_type,
        "hidden_size": metadata.count("embedding_length"),
        "num_hidden_layers": layers,
        "intermediate_size": metadata.count("feed_forward_length", metadata.count("embedding_length")),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.count("attention.head_count_kv", heads),
        "head_dim": metadata.head_dim,
        "rms_norm_eps": metadata.number("attention.layer_norm_rms_epsilon", 1e-6),
        "max_position_embeddings": metadata.context,
        "vocab_size": tensors[EMBEDDING].shape[0],
        "rope_parameters": rope,
        "tie_word_embeddings": HEAD not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "dtype": half_precision(architecture, tensors),
        **architecture.fields(metadata),
    }
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return _with_quantization(config, tensors, names)


def _with_quantization(
    config: dict[str, Any], tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, Any]:
    quantized = quantization(tensors, names)
    return {**config, "quantization": quantized} if quantized else config


def half_precision(architecture: Architecture, tensors: Mapping[str, Tensor]) -> str:
    """float16, in which the scales of most quantized blocks are stored: bfloat16 rounds them, and the answers show it. It is
    for files that are stored so, and for architectures that overflow float16."""
    sizes = {F16: 0, BF16: 0}
    for tensor in tensors.values():
        if tensor.type in sizes:
            sizes[tensor.type] += tensor.nbytes
    return "bfloat16" if architecture.bfloat16 or sizes[BF16] > sizes[F16] else "float16"


def quantization(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Any]:
    """The layers that are quantized, and how, as MLX writes it."""
    bits = {
        names[key].removesuffix(".weight"): tensor.type.packing.bits
        for key, tensor in tensors.items()
        if key in names and tensor.type.packing is not None
    }
    if not bits:
        return {}
    most = max(set(bits.values()), key=list(bits.values()).count)
    layers = {layer: {"group_size": GROUP, "bits": count} for layer, count in bits.items() if count != most}
    return {"group_size": GROUP, "bits": most, **layers}
