"""Logits of every architecture out of a GGUF: those of transformers, from which it was made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.sources import ModelMode, find
from tests.models.language.gguf.vocabularies import byte_pairs

pytest.importorskip("torch")
pytestmark = pytest.mark.reference

from models.language.load import load  # noqa: E402
from tests.models.language.census.checkpoints import configuration, logits, write_checkpoint  # noqa: E402
from tests.models.language.census.outcome import PROMPT, by_token, difference, whole  # noqa: E402
from tests.models.language.gguf.convert import ARCHITECTURES, write  # noqa: E402

THETA = {"rope_theta": 321.0, "rope_type": "default"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ARCHITECTURES if name != "mistral"},
    "mistral": ("mistral", {"sliding_window": None}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama 3.1": (
        "llama",
        {
            "rope_parameters": {
                "rope_theta": 5000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }
        },
    ),
    "linear": ("llama", {"rope_parameters": {**THETA, "rope_type": "linear", "factor": 3.0}}),
    "yarn": (
        "qwen2",
        {"rope_parameters": {**THETA, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}},
    ),
    "phi3, no window": ("phi3", {"sliding_window": None}),
    "phi 4 mini": (
        "phi3",
        {
            "sliding_window": None,
            "max_position_embeddings": 512,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                **THETA, "rope_type": "longrope", "partial_rotary_factor": 0.5, "attention_factor": 1.19,
                "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [1.0, 1.5, 3.0, 9.0],
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "gemma2, sizes of its own": ("gemma2", {"query_pre_attn_scalar": 24}),
}  # fmt: skip
# What no file says: the reader derives it from the sizes.
DERIVED = {
    "gemma2": {"query_pre_attn_scalar": 24},
    "gemma3_text": {
        "query_pre_attn_scalar": 24,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            "full_attention": {"rope_theta": 4321.0, "rope_type": "linear", "factor": 2.0},
            "sliding_attention": THETA,
        },
    },
    "mixtral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False},
    "qwen2_moe": {
        "norm_topk_prob": False,
        "use_sliding_window": False,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
    },
    "qwen3": {"use_sliding_window": False},
    "qwen3_moe": {"use_sliding_window": False, "mlp_only_layers": []},
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))

    def make(model_type: str, tied: bool = False, **changes: Any) -> tuple[Any, Path]:
        config = configuration(model_type, tied, **{**DERIVED.get(model_type, {}), **changes})
        model = write_checkpoint(config, tmp_path / "original")
        return model, write(tmp_path / "x.gguf", model, byte_pairs(config.vocab_size))

    return make


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_original(name: str, made: Callable[..., Any]) -> None:
    model_type, changes = CASES[name][0], dict(CASES[name][1])
    tied = changes.pop("tie_word_embeddings", model_type.startswith("gemma"))
    model, path = made(model_type, tied, **changes)
    reference = logits(model, PROMPT).numpy()
    loaded = load(find(str(path)).fetch(ModelMode.TEXT), float32=True)
    assert np.abs(reference).max() > 0.5
    for compute in (whole, by_token):
        assert difference(compute(loaded.model), reference) < 1e-4
