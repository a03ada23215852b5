"""The names of tensors and keys: those that the package `gguf`, with which files are written, has for them."""

import re

import pytest

from models.language.gguf.architectures import ARCHITECTURES
from models.language.gguf.names import FACTORS

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.weights

# What Ollama's own files call an architecture.
OLLAMA = {"qwen25vl": "qwen2vl"}


def known(architecture: str) -> set[str]:
    """The names of an architecture's layers in the package, without those of their blocks."""
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = (gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[number])
    return {re.sub(r"^blk\.\{bid\}\.", "", name) for name in names}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_have_the_names_of_the_format(architecture: str) -> None:
    names = known(OLLAMA.get(architecture, architecture))
    assert set(ARCHITECTURES[architecture].layers) <= names
    assert set(ARCHITECTURES[architecture].outside) - {"output"} <= names


def test_experts_and_factors_have_the_names_of_the_format() -> None:
    experts = {"ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}
    assert experts <= known("llama")
    assert {name.removesuffix(".weight") for name in FACTORS} <= set(gguf.TENSOR_NAMES.values())


def test_keys_have_the_names_of_the_format() -> None:
    classes = (gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope)
    keys = {
        value.removeprefix("{arch}.")
        for each in classes
        for value in vars(each).values()
        if isinstance(value, str)
    }
    assert keys >= {
        "block_count", "context_length", "embedding_length", "feed_forward_length", "expert_count", "expert_used_count",
        "expert_feed_forward_length", "expert_shared_feed_forward_length", "attn_logit_softcapping",
        "final_logit_softcapping", "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "attention.layer_norm_rms_epsilon", "attention.sliding_window",
        "attention.sliding_window_pattern", "rope.dimension_count", "rope.freq_base", "rope.freq_base_swa",
        "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.attn_factor",
        "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    }  # fmt: skip
