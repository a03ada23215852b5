"""The layers of a model in the layout of the kernels of a decoding step, and which models have such layers.

Llama, Qwen 2, Qwen 3 and models that use their architectures (Qwen2.5-VL and Qwen3-VL), in half precision or quantized, whole or sharded.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.rope_utils import Llama3RoPE

from models.kernels.checked import HALVES
from models.kernels.paged_attention import LARGEST_HEAD
from models.language.corrections.sections import SectionedRotary
from models.language.decode.fused_projections import Weights, can_fuse, fuse, is_head, weights
from models.language.decode.reference_ops import HeadLayout

FAMILIES = frozenset(f"mlx_lm.models.{name}" for name in ("llama", "qwen2", "qwen3"))
# Models that see, which do nothing but call their `language_model` where there are no pictures.
SEEING = frozenset(f"mlx_lm.models.{name}" for name in ("qwen2_vl", "qwen3_vl"))


@dataclass(frozen=True)
class Layer:
    """The weights of a layer, in the layout of the kernels."""

    norm_in: mx.array
    qkv: Weights
    layout: HeadLayout
    out: Weights
    norm_mlp: mx.array
    gate_up: Weights
    down: Weights


def text_network(model: Any) -> Any:
    """What decodes of a model that sees; other models themselves."""
    return model.language_model if _module(model) in SEEING else model


def _module(model: Any) -> str:
    """mlx-lm's, that a network is of or builds upon."""
    modules = (cls.__module__ for cls in type(model).__mro__)
    return next((name for name in modules if name.startswith("mlx_lm.")), "")


def is_supported(model: Any) -> bool:
    """Whether `Decoder` computes the same as the model: checks its class and everything its config can change."""
    if _module(model) not in FAMILIES:
        return False
    arrays = [array for _, array in _parameters(model)]
    dtypes = {array.dtype for array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    if len(dtypes) > 1 or not dtypes.issubset(HALVES):  # kernels work on a single type
        return False
    embed, head = model.model.embed_tokens, getattr(model, "lm_head", None)
    if not (is_head(embed) and is_head(embed if head is None else head)):
        return False
    return all(map(_is_supported_layer, model.model.layers))


def _is_supported_layer(block: Any) -> bool:
    attention, mlp = block.self_attn, block.mlp
    qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
    others = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if getattr(block, "use_sliding", False) or not all(
        map(can_fuse, (qkv, others[:1], others[1:3], others[3:]))
    ):
        return False
    if any("bias" in layer for layer in others):
        return False
    size = attention.q_proj.weight.shape[0] // attention.n_heads  # outputs, packed or not
    fits = size % 64 == 0 and size <= LARGEST_HEAD
    return fits and _inv_freq(attention.rope, size) is not None


def _parameters(model: nn.Module) -> list[tuple[str, mx.array]]:
    return tree_flatten(model.parameters())  # type: ignore[return-value]  # a list unless a destination is given


def _inv_freq(rope: Any, size: int) -> mx.array | None:
    """The radians per position of each pair of channels; None for other kinds of rotary embeddings."""
    if getattr(rope, "traditional", True) or getattr(rope, "dims", None) != size:
        return None
    if type(rope) is nn.RoPE:
        exponents = mx.arange(0, size, 2, dtype=mx.float32) / size
        return float(rope.scale) * mx.power(mx.array(float(rope.base)), -exponents)
    # In text, positions over three axes are equal: pictures in a prompt are not decoded.
    plain = type(rope) is Llama3RoPE or (type(rope) is SectionedRotary and rope.factor == 1.0)
    return 1.0 / rope._freqs.astype(mx.float32) if plain else None


def layer_of(block: Any) -> Layer:
    attention, mlp = block.self_attn, block.mlp
    qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
    size = attention.q_proj.weight.shape[0] // attention.n_heads
    inv_freq = _inv_freq(attention.rope, size)
    if inv_freq is None:
        raise ValueError(f"rotary embeddings of the class {type(attention.rope).__name__} are not supported")
    q_norm, k_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    bias = mx.concatenate([layer.bias for layer in qkv]) if "bias" in qkv[0] else None
    layout = HeadLayout(
        size,
        inv_freq,
        None if q_norm is None else q_norm.weight,
        None if k_norm is None else k_norm.weight,
        bias,
        float(q_norm.eps) if q_norm is not None else 0.0,
    )
    mx.eval(inv_freq, bias)
    return Layer(
        block.input_layernorm.weight,
        fuse(qkv),
        layout,
        weights(attention.o_proj),
        block.post_attention_layernorm.weight,
        fuse([mlp.gate_proj, mlp.up_proj]),
        weights(mlp.down_proj),
    )
