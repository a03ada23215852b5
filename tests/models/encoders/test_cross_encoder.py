"""Scores of cross-encoders: those that transformers and sentence-transformers compute."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.embedding.pair import Pair
from models.embedding.reranker import RerankError
from models.encoders.cross_encoder import CrossEncoder
from models.encoders.load import load
from tests.models.encoders.checkpoints import CASES, EMBEDDERS, REFERENCES, TEXTS, local, stored, words
from tests.models.encoders.references.make_encoders import save, types

RESULTS = np.load(REFERENCES / "encoders.npz")
SCORING = tuple(name for name in CASES if name not in EMBEDDERS)
IDENTITY = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}
PAIRS = [Pair(text, types(text)) for text in TEXTS]


def changed(folder: Path, change: dict[str, Any]) -> Path:
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    return words(folder)


def scores(encoder: CrossEncoder) -> list[float]:
    found = {index: score for step in encoder.steps(PAIRS) for index, score in step.items()}
    return [found[index] for index in range(len(PAIRS))]


@pytest.mark.parametrize("name", SCORING)
def test_logits_are_those_of_transformers_alone_and_in_a_batch(name: str, tmp_path: Path) -> None:
    encoder = CrossEncoder(load(local(changed(stored(name, tmp_path), IDENTITY))))
    expected = [float(RESULTS[f"{name}.{index}"][0]) for index in range(len(TEXTS))]
    for encoder.equal_lengths in (True, False):
        np.testing.assert_allclose(scores(encoder), expected, atol=2e-5)


def test_a_score_is_the_sigmoid_unless_the_checkpoint_says_otherwise(tmp_path: Path) -> None:
    plain = CrossEncoder(load(local(words(stored("bert-scores", tmp_path)))))
    logits = np.array([float(RESULTS[f"bert-scores.{index}"][0]) for index in range(len(TEXTS))])
    np.testing.assert_allclose(scores(plain), 1 / (1 + np.exp(-logits)), atol=1e-5)
    older = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
    np.testing.assert_allclose(scores(CrossEncoder(load(local(changed(tmp_path, older))))), logits, atol=2e-5)
    odd = {"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}
    with pytest.raises(
        RerankError, match=r"activation_fn is 'torch\.nn\.Tanh'; Sigmoid and Identity are supported"
    ):
        CrossEncoder(load(local(changed(tmp_path, odd))))


def test_an_embedder_scores_nothing(tmp_path: Path) -> None:
    with pytest.raises(RerankError, match="has no head for scores"):
        CrossEncoder(load(local(words(stored("bert", tmp_path)))))


@pytest.mark.reference
@pytest.mark.parametrize("name", ["bert-scores", "modernbert-scores"])
def test_scores_are_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    save(name, tmp_path, seed=3)
    model = load(local(words(tmp_path)))
    model.tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 40, "pad_token": "[PAD]"}
    if name == "bert-scores":
        tokenizer["tokenizer_class"] = "BertTokenizer"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    encoder = CrossEncoder(load(local(tmp_path)))
    documents = ["cab", "abc " * 40, "", "zebra"]
    expected = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu").predict(
        [("abc ab", one) for one in documents]
    )
    pairs = [encoder.pair("abc ab", one, 40) for one in documents]
    found = {index: score for step in encoder.steps(pairs) for index, score in step.items()}
    np.testing.assert_allclose([found[index] for index in range(4)], expected, atol=1e-5)
