"""The named prompts of a sentence-transformers checkpoint, chosen per request through the gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import load
from tests.models.encoders.checkpoints import local, stored, words
from tests.runner.gateway.live import Gateway

PROMPTS = {"query": "a b ", "passage": "c ", "nothing": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = words(stored("bert", tmp_path_factory.mktemp("prompts") / "embeds"))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    listing = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    prompts = {"prompts": PROMPTS, "default_prompt_name": "passage"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    with Gateway({"embeds": folder}, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


def vector(gateway: Gateway, **fields: Any) -> Any:
    answer = gateway.http.post("/v1/embeddings", json={"model": "embeds", "input": "cab", **fields})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["data"][0]["embedding"])


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, "passage"),
        ({"prompt_name": "query"}, "query"),
        ({"prompt_name": "nothing"}, "nothing"),
        ({"input_type": "query"}, "query"),
        ({"input_type": "search_query"}, "query"),
        ({"input_type": "search_document"}, "passage"),
    ],
)
def test_a_text_begins_with_the_prompt_that_is_named(
    gateway: Gateway, folder: Path, fields: Any, prompt: str
) -> None:
    model = load(local(folder), float32=True)
    text = PROMPTS[prompt] or ""
    ids = model.tokenizer.encode(text + "cab")
    states = np.array(model.network(np.array([ids], np.int32)))[0]
    # The prompt's tokens are read, and left out of the mean, with the token at the beginning.
    skipped = len(model.tokenizer.encode(text)) - 1 if text else 0
    mean = states[skipped:].mean(axis=0)
    np.testing.assert_allclose(vector(gateway, **fields), mean / np.linalg.norm(mean), atol=1e-5)
    embedder = EncoderEmbedder(model)
    (found,) = next(embedder.steps([ids], prompt)).values()
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "words_of_it"),
    [
        ({"prompt_name": "other"}, "prompt_name: 'other' is not one of the model's prompts; it has query, passage, nothing"),
        ({"prompt_name": "search_query"}, "prompt_name: 'search_query' is not one"),
        ({"input_type": "clustering"}, "input_type: 'clustering' is not one of the model's prompts"),
        ({"input_type": "query", "prompt_name": "query"}, "input_type: it cannot be combined with prompt_name"),
        ({"prompt_name": 3}, "prompt_name"),
    ],
)  # fmt: skip
def test_a_prompt_that_is_not_there_is_refused_by_name(
    gateway: Gateway, fields: Any, words_of_it: str
) -> None:
    answer = gateway.http.post("/v1/embeddings", json={"model": "embeds", "input": "cab", **fields})
    assert (answer.status_code, words_of_it in answer.text) == (400, True), answer.text


def test_the_native_api_has_them_too(gateway: Gateway) -> None:
    body = {"model": "embeds", "content": "cab", "prompt_name": "query"}
    answer = gateway.http.post("/embedding", json=body)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["embedding"], vector(gateway, prompt_name="query"), atol=1e-6)
