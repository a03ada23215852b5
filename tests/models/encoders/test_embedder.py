"""Vectors of encoders, with the pooling and the tokenizers of their checkpoints."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer

from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import load
from models.tokenizers.encoder import EncoderTokenizer, TokenizerError
from tests.models.encoders.checkpoints import REFERENCES, TEXTS, local, stored, words

RESULTS = np.load(REFERENCES / "encoders.npz")


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("equal", [True, False])
def test_vectors_are_the_mean_of_all_tokens_in_any_company(equal: bool, tmp_path: Path) -> None:
    embedder = EncoderEmbedder(load(local(words(stored("bert", tmp_path)))))
    embedder.equal_lengths = equal
    texts = [TEXTS[1], TEXTS[2], TEXTS[0], TEXTS[1]]
    vectors = embedder.embed(texts)
    for vector, index in zip(vectors, (1, 2, 0, 1), strict=True):
        np.testing.assert_allclose(vector, unit(RESULTS[f"bert.{index}"].mean(axis=0)), atol=1e-5)


def test_pooling_prompt_and_projection_are_the_checkpoints(tmp_path: Path) -> None:
    folder = words(stored("bert", tmp_path))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    listing = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    prompts = {"prompts": {"query": "a b "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    model = load(local(folder))
    embedder = EncoderEmbedder(model)
    ids = embedder.tokens("cab")
    assert model.tokenizer.decode(ids) == "[CLS] a b cab [SEP]"
    states = np.array(model.network(np.array([ids], np.int32)))[0]
    np.testing.assert_allclose(embedder.embed([ids])[0], unit(states[0]), atol=1e-5)


def test_a_vocabulary_alone_is_split_as_berts_tokenizer_splits(tmp_path: Path) -> None:
    tokenizer = EncoderTokenizer.load(words(tmp_path))
    reference = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"))
    for text in ("Abc cab", "", "éa 1", "a[SEP]b", "日本"):
        assert tokenizer.encode(text) == reference.encode(text).ids
    assert tokenizer.decode(tokenizer.encode("cab")) == "[CLS] cab [SEP]"


@pytest.mark.parametrize("lengths", [(3, 20), (20, 3), (20, 20), (2, 2), (15, 16)])
@pytest.mark.parametrize("limit", [8, 16, 17, 64])
def test_pairs_are_cut_as_the_tokenizers_library_cuts_them(
    lengths: tuple[int, int], limit: int, tmp_path: Path
) -> None:
    tokenizer = EncoderTokenizer.load(words(tmp_path))
    first, second = ("abc " * length for length in lengths)
    ids, types = tokenizer.pair(first, second, limit)
    reference = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"))
    reference.enable_truncation(limit, strategy="longest_first")
    expected = reference.encode(first, second)
    assert (ids, types) == (expected.ids, expected.type_ids)


def test_what_the_configuration_says_of_case_counts(tmp_path: Path) -> None:
    tokenizer = EncoderTokenizer.load(words(tmp_path))
    tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    assert EncoderTokenizer.load(tmp_path).encode("ABC") == tokenizer.encode("abc")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    unknown = tokenizer.backend.token_to_id("[UNK]")
    assert EncoderTokenizer.load(tmp_path).encode("ABC")[1:-1] == [unknown]


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json or vocab\.txt is needed"):
        EncoderTokenizer.load(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(TokenizerError, match=r"the vocabulary lacks \[UNK\], \[CLS\], \[SEP\]"):
        EncoderTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="cannot be read"):
        EncoderTokenizer.load(tmp_path)


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        EncoderTokenizer.load(words(tmp_path)).encode("\ud83c")
