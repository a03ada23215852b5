"""Hidden states of encoders: those that transformers computes."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.checkpoint.safetensors import WeightsError
from models.encoders.architectures import max_context, why_unsupported
from models.encoders.embedder import padded
from models.encoders.load import EncoderError, EncoderModel, load
from tests.models.encoders.checkpoints import BERT, EMBEDDERS, REFERENCES, TEXTS, local, stored, words, write
from tests.models.encoders.references.make_encoders import outputs, save

RESULTS = np.load(REFERENCES / "encoders.npz")


def loaded(folder: Path, **settings: Any) -> EncoderModel:
    return load(local(words(folder)), **settings)


def hidden(model: EncoderModel, text: list[int]) -> NDArray[np.float32]:
    return np.array(model.network(np.array([text], np.int32)))[0]


@pytest.mark.parametrize("name", EMBEDDERS)
def test_hidden_states_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = loaded(stored(name, tmp_path))
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(hidden(model, text), RESULTS[f"{name}.{index}"], atol=2e-5)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_texts_in_one_batch_do_not_see_each_other_nor_padding(name: str, tmp_path: Path) -> None:
    network = loaded(stored(name, tmp_path)).network
    ids, lengths = padded(TEXTS, network.padding)
    states = np.array(network(ids, mx.array(lengths)))
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(states[index, : len(text)], RESULTS[f"{name}.{index}"], atol=2e-5)


def test_a_long_text_is_read_in_windows_as_it_is_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.encoders.attention.QUERIES", 5)
    model = loaded(stored("modernbert", tmp_path))
    np.testing.assert_allclose(hidden(model, TEXTS[2]), RESULTS["modernbert.2"], atol=2e-5)


@pytest.mark.reference
@pytest.mark.parametrize("name", EMBEDDERS)
def test_hidden_states_are_those_of_the_installed_transformers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    save(name, tmp_path, seed=7)
    model = loaded(tmp_path)
    for text, expected in zip(TEXTS, outputs(name, tmp_path), strict=True):
        np.testing.assert_allclose(hidden(model, text), expected, atol=2e-5)


def test_names_of_newer_and_older_files_are_read(tmp_path: Path) -> None:
    """transformers' own names of NomicBERT's layers, LayerNorm's gamma, and the name of the network before all others."""
    case = json.loads((REFERENCES / "encoders.json").read_text())["bert"]
    expected = hidden(loaded(stored("bert", tmp_path / "new")), TEXTS[1])
    tensors = dict(mx.load(str(tmp_path / "new" / "model.safetensors")))
    renamed = {
        "bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): value
        for name, value in tensors.items()
    }
    old = write(tmp_path / "old", case["config"], {})
    mx.save_safetensors(str(old / "model.safetensors"), renamed)
    np.testing.assert_array_equal(hidden(loaded(old), TEXTS[1]), expected)


def test_the_first_configs_of_nomic_bert_are_read(tmp_path: Path) -> None:
    folder = stored("nomic_bert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    names = {
        "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions", "layer_norm_eps": "layer_norm_epsilon",
    }  # fmt: skip
    old = {names.get(name, name): value for name, value in config.items() if name != "rope_parameters"}
    old |= {
        "rotary_emb_base": 300,
        "activation_function": "swiglu",
        "prenorm": False,
        "rotary_scaling_factor": None,
    }
    (folder / "config.json").write_text(json.dumps(old))
    assert why_unsupported(old) is None
    model = loaded(folder)
    assert model.context == 40
    np.testing.assert_allclose(hidden(model, TEXTS[1]), RESULTS["nomic_bert.1"], atol=2e-5)


def test_half_precision_is_widened_where_float32_is_needed(tmp_path: Path) -> None:
    folder = stored("bert", tmp_path)
    halves = {
        name: value.astype(mx.bfloat16) for name, value in mx.load(str(folder / "model.safetensors")).items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), halves)
    assert loaded(folder).network.embeddings.word_embeddings.weight.dtype == mx.bfloat16
    model = loaded(folder, float32=True)
    assert model.network.embeddings.word_embeddings.weight.dtype == mx.float32
    assert model.notes == [
        "half-precision weights are converted to float32: processors have no fast path for them"
    ]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "nomic_bert", "n_positions": 8192}, 8192),
        ({"model_type": "modernbert"}, None),
    ],
)
def test_how_much_an_encoder_reads(config: dict[str, Any], tokens: int | None) -> None:
    assert max_context(config) == tokens


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type of bert must be absolute"),
        ({"model_type": "bert", "is_decoder": True}, "is_decoder of bert must be False; config.json has True"),
        ({"model_type": "nomic_bert", "num_experts": 8}, "num_experts of nomic_bert must be 0"),
        ({"model_type": "modernbert", "rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type 'yarn'"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "it sorts texts into 2 classes"),
    ],
)  # fmt: skip
def test_an_encoder_that_would_be_computed_differently_is_refused(
    config: dict[str, Any], reason: str
) -> None:
    assert reason in (why_unsupported(config) or "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_attention_heads": 5}, "hidden_size 32 does not divide into num_attention_heads 5"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers"),
        ({"hidden_act": "mish"}, "activation 'mish' is unknown"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = stored("bert", tmp_path)
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=reason):
        loaded(folder)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = stored("bert", tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"missing: encoder\.layer\.3"):
        loaded(folder)


def test_the_context_is_the_smallest_of_all_limits(tmp_path: Path) -> None:
    folder = stored("bert", tmp_path)
    assert loaded(folder).context == BERT["max_position_embeddings"]
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 30}')
    assert loaded(folder).context == 30
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    assert loaded(folder).context == 20
    assert loaded(folder, context=10).context == 10
