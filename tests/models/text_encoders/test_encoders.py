"""The text encoders against transformers: stored outputs always, the live classes where they are installed."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.weights import WeightsError, load_component, load_tensors
from models.config import ConfigError
from models.files import Shard
from models.text_encoders.clip import CLIPTextConfig, CLIPTextEncoder
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from models.text_encoders.t5 import T5Config, T5Encoder
from tests import ROOT
from tests.models.text_encoders.encoder_cases import CASES, Case, clip, encoder, qwen3, t5, weights

REFERENCES = ROOT / "tests" / "models" / "references"
REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3-4B": (
        "Qwen3ForCausalLM",
        {"vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
    ),
    "Qwen3-8B": (
        "Qwen3ForCausalLM",
        {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False},
    ),
    "T5-XXL": (
        "T5EncoderModel",
        {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
         "feed_forward_proj": "gated-gelu"},
    ),
    "CLIP-L": (
        "CLIPTextModel",
        {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
         "num_attention_heads": 12, "max_position_embeddings": 77, "eos_token_id": 2, "projection_dim": 768},
    ),
}  # fmt: skip


def run(case: Case, network: Any) -> np.ndarray:
    ids, mask = case.batch()
    return np.array(network(mx.array(ids), None if mask is None else mx.array(mask)))


def real_tokens(case: Case, states: np.ndarray) -> np.ndarray:
    """What stands at padding in front of a prompt sees nothing; it is read by nobody and left undefined."""
    _, mask = case.batch()
    return states[mask.astype(bool)] if case.left and mask is not None else states


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def stored() -> tuple[dict[str, Any], Any]:
    return json.loads((REFERENCES / "encoders.json").read_text()), np.load(REFERENCES / "encoders.npz")


@pytest.mark.parametrize("name", CASES)
def test_an_encoder_equals_the_stored_reference(name: str, stored: tuple[dict[str, Any], Any]) -> None:
    described, outputs = stored
    case, toy = CASES[name], described[name]
    network = encoder(case, toy["config"])
    tensors = {key: mx.array(value) for key, value in weights(toy["shapes"], case.seed).items()}
    load_tensors(network, tensors, network.weight_map)
    actual = run(case, network)
    assert np.isfinite(actual).all()
    assert relative_error(real_tokens(case, actual), real_tokens(case, outputs[name])) < 1e-5


@pytest.mark.reference
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shard_size", ["5GB", "10KB"])
def test_an_encoder_equals_the_live_reference_from_its_own_files(
    name: str, shard_size: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from tests.models.references.make_encoders import output, reference

    case = CASES[name]
    model = reference(case)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    network = encoder(case, json.loads((tmp_path / "config.json").read_text()))
    shards = [Shard(path) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert len(shards) > 1 or shard_size == "5GB"
    load_component(network, shards, network.weight_map)
    actual, expected = real_tokens(case, run(case, network)), real_tokens(case, output(case, model))
    assert relative_error(actual, expected) < 1e-5


@pytest.mark.reference
@pytest.mark.parametrize("name", REAL)
def test_real_dimensions_have_the_reference_names_and_shapes(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    reference, values = REAL[name]
    cls = getattr(transformers, reference)
    with torch.device("meta"):
        model = cls(cls.config_class(**values))
    network = encoder(Case(reference, values, depths=(9, 18, 27)), values)
    # Zeros are not made before they are evaluated, and nothing here is.
    stored = {key: mx.zeros(tuple(value.shape), mx.bfloat16) for key, value in model.state_dict().items()}
    load_tensors(network, stored, network.weight_map)
    assert all(value.dtype == mx.bfloat16 for _, value in tree_flatten(network.parameters()))


def test_layers_above_the_deepest_state_are_never_built() -> None:
    network = Qwen3Encoder(Qwen3Config.from_dict(qwen3(num_hidden_layers=36)), (9, 18, 27))
    assert len(network.layers) == 27
    assert "norm" not in network
    assert len(Qwen3Encoder(Qwen3Config.from_dict(qwen3(num_hidden_layers=36)), (-2,)).layers) == 35


def test_padding_behind_a_prompt_changes_nothing_before_it(stored: tuple[dict[str, Any], Any]) -> None:
    case, toy = CASES["qwen3-three-depths"], stored[0]["qwen3-three-depths"]
    network = encoder(case, toy["config"])
    tensors = {key: mx.array(value) for key, value in weights(toy["shapes"], case.seed).items()}
    load_tensors(network, tensors, network.weight_map)
    ids = mx.array([[5, 6, 7]])
    padded = network(mx.array([[5, 6, 7, 0, 0]]), mx.array([[1, 1, 1, 0, 0]]))
    assert mx.allclose(network(ids), padded[:, :3], atol=1e-5)


def test_half_precision_stays_half_precision() -> None:
    for network in (
        Qwen3Encoder(Qwen3Config.from_dict(qwen3())),
        T5Encoder(T5Config.from_dict(t5())),
        CLIPTextEncoder(CLIPTextConfig.from_dict(clip())),
    ):
        for dtype in (mx.bfloat16, mx.float16):
            network.set_dtype(dtype)
            assert (
                network(mx.array([[1, 2, 70 if isinstance(network, CLIPTextEncoder) else 3]])).dtype == dtype
            )


def test_a_t5_whose_embedding_has_its_second_name_or_both_loads(stored: tuple[dict[str, Any], Any]) -> None:
    toy = stored[0]["t5-xxl-like"]
    values = {key: mx.array(value) for key, value in weights(toy["shapes"], 0).items()}
    network = T5Encoder(T5Config.from_dict(toy["config"]))
    shared = values["shared.weight"]
    load_tensors(network, {**values, "encoder.embed_tokens.weight": shared}, network.weight_map)
    del values["shared.weight"]
    load_tensors(network, {**values, "encoder.embed_tokens.weight": shared}, network.weight_map)
    assert mx.array_equal(network.shared.weight, shared)
    with pytest.raises(WeightsError, match=r"T5Encoder: .* 1 missing: shared\.weight"):
        load_tensors(network, values, network.weight_map)


@pytest.mark.parametrize(
    ("read", "values", "message"),
    [
        (Qwen3Config.from_dict, qwen3(rope_scaling={"type": "yarn", "factor": 4.0}), "rope type 'yarn'"),
        (Qwen3Config.from_dict, qwen3(use_sliding_window=True), "use_sliding_window is true"),
        (Qwen3Config.from_dict, qwen3(num_key_value_heads=3), "4 attention heads cannot share 3"),
        (Qwen3Config.from_dict, {"hidden_size": 3}, "vocab_size is missing"),
        (T5Config.from_dict, t5(feed_forward_proj="wide-gelu"), "feed_forward_proj is 'wide-gelu'"),
        (CLIPTextConfig.from_dict, clip(num_attention_heads=5), "hidden_size 24 does not divide"),
    ],
)
def test_a_config_that_cannot_be_run_says_why(read: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(values)


def test_a_depth_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError, match="do not exist in an encoder of 4 layers"):
        Qwen3Encoder(Qwen3Config.from_dict(qwen3()), (5,))


def test_a_prompt_longer_than_clip_has_positions_is_an_error() -> None:
    network = CLIPTextEncoder(CLIPTextConfig.from_dict(clip()))
    with pytest.raises(ValueError, match="17 tokens are too long for this CLIP model: it has 16 positions"):
        network(mx.zeros((1, 17), mx.int32))
