"""A model that cannot be run is refused by what its files say, at every endpoint, and no runner is ever started."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runner.checkpoints import text_files, write
from tests.runner.gateway.live import Gateway

DEBERTA = "mlx-lm has no architecture 'deberta'"
CHAT = [{"role": "user", "content": "Why"}]

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/models/load", {}),
    ("/completion", {"prompt": "Why"}),
    ("/tokenize", {"content": "Why"}),
    ("/detokenize", {"tokens": [1]}),
    ("/embedding", {"content": "Why"}),
    ("/v1/chat/completions", {"messages": CHAT}),
    ("/v1/chat/completions", {"messages": CHAT, "stream": True}),
    ("/v1/completions", {"prompt": "Why"}),
    ("/v1/responses", {"input": "Why"}),
    ("/v1/embeddings", {"input": "Why"}),
    ("/v1/images/generations", {"prompt": "a sun"}),
    ("/api/generate", {"prompt": "Why"}),
    ("/api/generate", {}),
    ("/api/chat", {"messages": CHAT}),
    ("/api/embed", {"input": "Why"}),
    ("/api/embeddings", {"prompt": "Why"}),
    ("/api/pull", {}),
    ("/api/pull", {"stream": False}),
]


def deberta(folder: Path) -> Path:
    files = text_files({"embeddings.word_embeddings.weight": ("F32", (16, 8))})
    return write(folder, {**files, "config.json": {"model_type": "deberta"}})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("models")
    bare = write(home / "bare", {"config.json": {"model_type": "llama"}})
    torn = write(home / "torn", text_files({"w": ("F32", (16, 8))}))
    (torn / "model.safetensors").write_bytes(b"nonsense")
    with Gateway({"deberta": deberta(home / "deberta"), "bare": bare, "torn": torn}) as gateway:
        yield gateway
        assert gateway.metric("diptych_loads_total") == 0
        assert gateway.metric("diptych_crashes_total") == 0


@pytest.mark.parametrize(
    ("path", "body"), REQUESTS, ids=[f"{path} {sorted(body)}" for path, body in REQUESTS]
)
def test_an_unknown_architecture_is_a_400_with_its_reason(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    response = gateway.http.post(path, json={"model": "deberta", **body})
    assert response.status_code == 400, response.text
    assert DEBERTA in response.text
    assert gateway.models() == {}


@pytest.mark.parametrize(("name", "words"), [("bare", "has no weights"), ("torn", "model.safetensors")])
def test_so_are_weights_that_are_not_there_or_cannot_be_read(gateway: Gateway, name: str, words: str) -> None:
    response = gateway.ask(name)
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]
    assert gateway.models() == {}


def test_what_it_is_can_still_be_seen_and_that_it_can_do_nothing(gateway: Gateway) -> None:
    shown = gateway.http.post("/api/show", json={"model": "deberta"}).json()
    assert shown["details"]["family"] == "deberta"
    assert shown["capabilities"] == []
    assert DEBERTA in shown["warnings"][0]
