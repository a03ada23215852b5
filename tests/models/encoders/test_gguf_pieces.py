"""XLM-RoBERTa and its rerankers in GGUF: SentencePiece's Unigram, scores, and tables that are damaged."""

import random
from array import array
from pathlib import Path

import numpy as np
import pytest

from models.encoders.cross_encoder import CrossEncoder
from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import load
from models.tokenizers.gguf.build import build_tokenizer
from models.tokenizers.gguf.charsmap import is_sound
from models.tokenizers.gguf.vocabulary import Vocabulary, VocabularyError
from runner.errors import ModelNotSupported
from runner.inspect.capabilities import text_capabilities
from runner.inspect.detect import check_runnable, detect
from runner.sources import ModelMode, find
from tests.models.encoders.checkpoints import local, stored
from tests.models.encoders.gguf_files import convert, pieces, train_pieces

pytest.importorskip("gguf")
sentencepiece = pytest.importorskip("sentencepiece")
pytestmark = pytest.mark.weights
TEXTS = (
    "the boats at sea", "", " ", "  two   spaces ", "été ②", "ｆｕｌｌ", "Ünknown 漢字 <mask> x", "a\tb\nc", "</s> the sea",
    "boat" * 30,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def folder_of(name: str, tmp_path: Path) -> Path:
    return train_pieces(stored(name, tmp_path / "folder"), 64)


def test_pieces_are_sentencepiece_s(tmp_path: Path) -> None:
    folder = folder_of("xlm-roberta", tmp_path)
    path = convert(folder, tmp_path / "x.gguf")
    files = find(str(path))
    tokenizer = load(files.fetch(ModelMode.TEXT)).tokenizer
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))
    for text in TEXTS:
        if "<" in text:
            continue  # special tokens are not SentencePiece's
        expected = [id + 1 if id else 3 for id in processor.encode(text)]
        assert tokenizer.encode(text) == [0, *expected, 2], text
    mask = len(pieces(folder).pieces) + 1
    assert mask in tokenizer.encode("a <mask> b")
    ids, types = tokenizer.pair("the sea", "a boat", 40)
    assert (ids[0], ids[-1], types) == (0, 2, [0] * len(ids))
    assert ids.count(2) == 3, "one ends the first text, one begins the second, one ends it"


def test_vectors_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    folder = folder_of("xlm-roberta", tmp_path)
    config = (folder / "config.json").read_text().replace('"relu"', '"gelu"')
    (folder / "config.json").write_text(config)
    path = convert(folder, tmp_path / "x.gguf", pooling=2)
    model = load(find(str(path)).fetch(ModelMode.TEXT), float32=True)
    assert detect(str(path)).context_length == 37
    embedder = EncoderEmbedder(model)
    ids = [5, 9, 8, 7, 6]
    original = load(without_tokenizer(folder, path)).network
    states = np.array(original(np.array([ids], np.int32), None))[0, 0]
    np.testing.assert_allclose(embedder.embed([ids])[0], states / np.linalg.norm(states), atol=1e-5)


def without_tokenizer(folder: Path, path: Path) -> object:
    """The checkpoint, with the tokenizer of the GGUF."""
    made = find(str(path)).fetch(ModelMode.TEXT).folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((made / name).read_bytes())
    return local(folder)


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_scores_are_those_of_the_checkpoint(tmp_path: Path, kind: str) -> None:
    folder = folder_of("xlm-roberta-scores", tmp_path)
    config = (folder / "config.json").read_text().replace('"gelu_new"', '"gelu"')
    config = config.replace('"pad_token_id": 2', '"pad_token_id": 1')  # as trained ones: 2 ends a text
    (folder / "config.json").write_text(config)
    path = convert(folder, tmp_path / "x.gguf", kind, pooling=4)
    files = find(str(path))
    check_runnable(files)
    assert text_capabilities(files) == ["rerank"]
    scores = [
        CrossEncoder(load(source, float32=True))  # type: ignore[arg-type]
        for source in (files.fetch(ModelMode.TEXT), without_tokenizer(folder, path))
    ]
    pairs = [scores[0].pair("the sea", document, 40) for document in ("a boat", "the shore of the sea", "x")]
    found, expected = (np.array([each.score_batch([pair])[0] for pair in pairs]) for each in scores)
    np.testing.assert_allclose(found, expected, atol=1e-5 if kind == "F32" else 2e-3)
    assert np.ptp(found) > 1e-4


def test_several_classes_are_refused(tmp_path: Path) -> None:
    folder = folder_of("xlm-roberta-scores", tmp_path)
    import mlx.core as mx

    tensors = mx.load(str(folder / "model.safetensors"))
    assert isinstance(tensors, dict)
    for key in ("classifier.out_proj.weight", "classifier.out_proj.bias"):
        tensors[key] = mx.concatenate([tensors[key]] * 3)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    with pytest.raises(ModelNotSupported, match="3 classes"):
        check_runnable(find(str(convert(folder, tmp_path / "x.gguf", pooling=4))))


def test_a_damaged_table_is_refused_or_harmless(tmp_path: Path) -> None:
    table = pieces(train_pieces(tmp_path, 64)).normalizer_spec.precompiled_charsmap
    assert is_sound(table)
    chance = random.Random(3)
    kept = 0
    for _ in range(150):
        broken = bytearray(table)
        for _ in range(chance.choice((1, 30, 3000))):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        cut = bytes(broken)[: chance.choice((len(broken), chance.randrange(len(broken))))]
        tokens = ["<unk>", "▁", "a"]
        metadata = {
            "tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": array("f", [0, -1, -2]),
            "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.precompiled_charsmap": array("B", cut),
        }  # fmt: skip
        try:
            tokenizer = build_tokenizer(Vocabulary(metadata, "x"))
        except VocabularyError:
            continue
        kept += 1
        for text in (*TEXTS, "".join(chr(chance.randrange(32, 0x3000)) for _ in range(300))):
            tokenizer.encode(text)
    assert kept, "some changes do no harm"
