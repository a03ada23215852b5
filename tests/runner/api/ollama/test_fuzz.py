"""Whatever stands in a field: an answer or a refusal in Ollama's shape, never a fault of the gateway's."""

import json
from typing import Any

import pytest

from tests.runner.fuzzing import no_fault, strange_bodies
from tests.runner.gateway.live import Gateway

SHORT = {"num_predict": 2}
REQUESTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "generate": (
        "/api/generate",
        {"model": "toy", "prompt": "x", "options": SHORT},
        "model prompt suffix system template context raw images width height steps stream format "
        "think logprobs top_logprobs truncate shift nonsense",
    ),
    "picture": (
        "/api/generate",
        {"model": "klein", "prompt": "x", "width": 64, "height": 64, "steps": 1},
        "prompt images width height steps stream format think raw",
    ),
    "chat": (
        "/api/chat",
        {"model": "toy", "messages": [{"role": "user", "content": "x"}], "options": SHORT},
        "model messages tools stream format think logprobs top_logprobs truncate",
    ),
    "embed": ("/api/embed", {"model": "toy", "input": "x"}, "model input truncate dimensions"),
    "embeddings": ("/api/embeddings", {"model": "toy", "prompt": "x"}, "model prompt"),
    "show": ("/api/show", {"model": "toy"}, "model name verbose"),
    "pull": ("/api/pull", {"model": "toy"}, "model name stream insecure"),
    "copy": ("/api/copy", {"source": "toy", "destination": "mine"}, "source destination"),
    "delete": ("/api/delete", {"model": "mine"}, "model name"),
}  # fmt: skip
OPTIONS = (
    "num_ctx priority temperature top_k top_p min_p repeat_last_n repeat_penalty presence_penalty frequency_penalty "
    "seed stop mirostat mirostat_tau typical_p tfs_z num_gpu num_keep penalize_newline vocab_only nonsense"
)
TURNS = "role content thinking images tool_calls tool_name tool_call_id nonsense"


def ask(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    method = "DELETE" if path == "/api/delete" else "POST"
    answer = gateway.http.request(method, path, content=json.dumps(body))
    shown = (path, body, answer.status_code, answer.text[:300])
    assert no_fault(answer.status_code), shown
    if answer.status_code >= 400:
        assert answer.json().keys() == {"error"}, shown
        return
    for line in answer.content.splitlines():
        assert "error" not in json.loads(line), shown


@pytest.mark.slow
@pytest.mark.parametrize("kind", REQUESTS)
def test_strange_values_are_refused_in_the_usual_shape(gateway: Gateway, kind: str) -> None:
    path, base, fields = REQUESTS[kind]
    for body in strange_bodies(base, fields):
        ask(gateway, path, body)


@pytest.mark.slow
def test_strange_options_and_turns_are_refused_too(gateway: Gateway) -> None:
    for options in strange_bodies(SHORT, OPTIONS):
        ask(gateway, "/api/generate", {"model": "toy", "prompt": "x", "options": options})
    for turn in strange_bodies({"role": "assistant", "content": "x"}, TURNS):
        ask(gateway, "/api/chat", {"model": "toy", "messages": [turn], "options": SHORT})
