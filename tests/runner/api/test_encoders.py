"""Encoders behind the gateway, in OpenAI's, Ollama's and the native API, as real processes."""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import load
from tests.models.encoders.checkpoints import local, stored, words
from tests.runner.gateway.live import Gateway

TEXTS = ["abc", "", "ab cab abc"]
LONG = "abc " * 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(stored("bert", tmp_path_factory.mktemp("encoder") / "toy"))


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    with Gateway({"embeds": folder}, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def vectors(folder: Path) -> np.ndarray:
    embedder = EncoderEmbedder(load(local(folder)))
    return embedder.embed([embedder.tokens(text) for text in TEXTS])


def ask(gateway: Gateway, path: str, **body: Any) -> httpx2.Response:
    return gateway.http.post(path, json={"model": "embeds", **body})


def test_vectors_are_the_same_in_all_apis(gateway: Gateway, vectors: np.ndarray) -> None:
    openai = ask(gateway, "/v1/embeddings", input=TEXTS).json()
    packed = ask(gateway, "/v1/embeddings", input=TEXTS[0], encoding_format="base64").json()
    ollama = ask(gateway, "/api/embed", input=TEXTS).json()
    older = ask(gateway, "/api/embeddings", prompt=TEXTS[0]).json()
    native = ask(gateway, "/embedding", content=TEXTS).json()
    np.testing.assert_allclose([entry["embedding"] for entry in openai["data"]], vectors, atol=1e-5)
    np.testing.assert_allclose(ollama["embeddings"], vectors, atol=1e-5)
    np.testing.assert_allclose(native["embeddings"], vectors, atol=1e-5)
    np.testing.assert_allclose(older["embedding"], vectors[0], atol=1e-5)
    numbers = struct.unpack("<32f", base64.b64decode(packed["data"][0]["embedding"]))
    np.testing.assert_allclose(numbers, vectors[0], atol=1e-5)
    assert openai["usage"]["prompt_tokens"] == ollama["prompt_eval_count"] == native["prompt_eval_count"]


def test_a_list_of_one_empty_text_has_a_vector_and_no_text_has_none(
    gateway: Gateway, vectors: np.ndarray
) -> None:
    """As Ollama answers: [CLS] and [SEP] remain of an empty text."""
    listed = ask(gateway, "/api/embed", input=[""]).json()
    np.testing.assert_allclose(listed["embeddings"], vectors[1:2], atol=1e-5)
    assert listed["prompt_eval_count"] == 2
    assert ask(gateway, "/api/embed", input="").json()["embeddings"] == []
    assert ask(gateway, "/api/embed", input=[]).json()["embeddings"] == []


def test_fewer_dimensions_have_length_one(gateway: Gateway, vectors: np.ndarray) -> None:
    expected = vectors[0, :8] / np.linalg.norm(vectors[0, :8])
    ollama = ask(gateway, "/api/embed", input=TEXTS[0], dimensions=8).json()["embeddings"][0]
    openai = ask(gateway, "/v1/embeddings", input=TEXTS[0], dimensions=8).json()["data"][0]["embedding"]
    np.testing.assert_allclose(ollama, expected, atol=1e-5)
    np.testing.assert_allclose(openai, expected, atol=1e-5)
    refused = ask(gateway, "/v1/embeddings", input=TEXTS[0], dimensions=33)
    assert refused.status_code == 400
    assert "33 is too many; this model's vectors have 32" in refused.text


def test_a_long_text_is_cut_or_refused_as_the_request_says(gateway: Gateway) -> None:
    openai = ask(gateway, "/v1/embeddings", input=LONG)
    assert openai.status_code == 400
    assert openai.json()["error"]["code"] == "context_length_exceeded"
    assert "152 tokens do not fit into the context of 40" in openai.text
    cut = ask(gateway, "/v1/embeddings", input=LONG, truncate=True).json()
    ollama = ask(gateway, "/api/embed", input=LONG).json()
    assert cut["usage"]["prompt_tokens"] == ollama["prompt_eval_count"] == 40
    np.testing.assert_allclose(cut["data"][0]["embedding"], ollama["embeddings"][0], atol=1e-6)
    assert ask(gateway, "/api/embed", input=LONG, truncate=False).status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/completions", {"prompt": "a"}),
        ("/api/generate", {"prompt": "a", "stream": False}),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}], "stream": False}),
        ("/completion", {"prompt": "a"}),
    ],
)
def test_an_encoder_that_is_to_write_says_what_it_is_for(
    path: str, body: dict[str, Any], gateway: Gateway
) -> None:
    answer = ask(gateway, path, **body)
    assert answer.status_code == 400
    assert "makes vectors and cannot write text; use it with /v1/embeddings or /api/embed" in answer.text


def test_its_capability_is_shown(gateway: Gateway) -> None:
    shown = ask(gateway, "/api/show").json()
    assert shown["capabilities"] == ["embedding"]
    assert shown["details"]["family"] == "bert"
    assert shown["model_info"]["bert.context_length"] == 40
    models = {model["id"]: model for model in gateway.http.get("/v1/models").json()["data"]}
    assert models["embeds"]["capabilities"] == ["embedding"]
    assert gateway.models()["toy"]["context"] == 40


def test_tokens_are_counted_and_read_back(gateway: Gateway) -> None:
    tokens = ask(gateway, "/tokenize", content="cab abc").json()["tokens"]
    assert len(tokens) == 6
    assert ask(gateway, "/detokenize", tokens=tokens).json()["content"] == "cab abc"


def test_bad_tokens_and_texts_are_refused_and_the_model_lives(gateway: Gateway) -> None:
    for body in ({"input": [[63, 64]]}, {"input": []}, {"input": 3}, {"input": ["a"], "dimensions": 0}):
        assert ask(gateway, "/v1/embeddings", **body).status_code == 400
    assert ask(gateway, "/v1/embeddings", input="a").status_code == 200
