"""What the document says is needed, or goes together, is what the gateway refuses: both are asked about each body."""

import asyncio
from typing import Any

import httpx2
import pytest

from runner.api.registry import APIS
from runner.gateway.app import Gateway
from runner.gateway.settings import Settings
from runner.http.openapi import Document

jsonschema = pytest.importorskip("jsonschema", reason="the clients group is not installed")

SAID = {"role": "user", "content": "Why?"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look"}}
NAMED = {"type": "function", "name": "look"}
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
URI = "data:image/png;base64,AAAA"
ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("/api/show", {"name": "x"}),
    ("/api/chat", {"messages": [{"role": "tool"}]}),
    ("/api/chat", {"messages": [SAID | {"images": ["AAAA"]}]}),
    ("/api/chat", {"messages": [{"role": "user", "images": ["AAAA"]}]}),
    ("/api/chat", {"messages": [SAID], "options": {"num_predict": 3.0, "num_gpu": 1}, "format": "json"}),
    ("/api/chat", {"messages": [{"role": "assistant", "tool_calls": [TOOL]}], "tools": [TOOL]}),
    ("/api/generate", {"prompt": "Why?", "suffix": "", "raw": True}),
    ("/api/chat", {"messages": [SAID], "options": {"unheard_of": 1, "mirostat": 2, "temperature": "0.5"}}),
    ("/api/chat", {"messages": [SAID], "think": True, "format": "json"}),
    ("/api/embed", {"input": "x", "dimensions": 3.0}),
    ("/completion", {"prompt": "x"}),
    ("/completion", {"messages": [SAID]}),
    ("/v1/chat/completions", {"messages": [SAID], "tools": [TOOL], "tool_choice": "required"}),
    ("/v1/chat/completions", {"messages": [SAID], "response_format": SCHEMA}),
    ("/v1/chat/completions", {"messages": [SAID], "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", {"messages": [SAID], "modalities": ["text"], "max_tokens": 3.0}),
    ("/v1/completions", {"prompt": [1, 2], "best_of": 1}),
    ("/v1/completions", {"prompt": ["a", "b"], "echo": True}),
    ("/v1/completions", {"prompt": ["a", 1]}),
    ("/v1/completions", {"prompt": "x", "best_of": 3}),
    ("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 1}),
    ("/v1/embeddings", {"input": [[1], [2]]}),
    ("/v1/responses", {"input": "x", "text": {"format": {"type": "json_schema", "schema": {}}}}),
    ("/v1/messages", {"messages": [SAID], "max_tokens": 3.0, "tools": [{"type": "web_search_20250305"}]}),
    ("/v1/messages/count_tokens", {"messages": [SAID], "system": [{"type": "text", "text": "x"}]}),
    ("/v1/chat/completions", {"messages": [SAID], "response_format": SCHEMA, "tools": [TOOL]}),
    ("/v1/responses", {"input": "x", "tools": [NAMED], "text": {"format": {"type": "json_object"}}}),
    ("/v1/responses", {"input": "x", "tools": [{"type": "web_search"}]}),
    ("/v1/responses", {"input": "x", "tools": [{"type": "custom", "name": "look"}]}),
    ("/v1/images/generations", {"prompt": "x", "size": "auto", "background": "opaque"}),
    ("/v1/images/generations", {"prompt": "x", "stream": True, "partial_images": 2}),
    ("/v1/images/generations", {"prompt": "x", "width": 32, "height": 32, "cfg_truncation": 1}),
    ("/v1/images/generations", {"prompt": "x", "seeds": [1, 2], "variations": [{"seed": 1, "strength": 1}]}),
    ("/v1/images/edits", {"prompt": "x", "image": URI}),
    (
        "/v1/images/edits",
        {"prompt": "x", "image": URI, "mask": {"image_url": URI}, "outpaint": "0 8", "feather": 4},
    ),
    ("/models/stop", {"keep_alive": "5m"}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/api/show", {"model": None}),
    ("/api/pull", {"model": "gemma3"}),
    ("/api/copy", {"source": "x", "destination": "a name"}),
    ("/api/chat", {"messages": [{"role": "user"}]}),
    ("/api/chat", {"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]}),
    ("/api/embed", {"input": "x", "dimensions": 3.5}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": None}]}),
    ("/v1/chat/completions", {"messages": [SAID], "tool_choice": "required"}),
    ("/v1/chat/completions", {"messages": [SAID], "tool_choice": "sometimes"}),
    ("/v1/chat/completions", {"messages": [SAID], "response_format": {"type": "json_schema"}}),
    ("/v1/chat/completions", {"messages": [SAID], "stream_options": {}}),
    ("/v1/chat/completions", {"messages": [SAID], "modalities": ["audio"]}),
    ("/v1/chat/completions", {"messages": [SAID], "top_logprobs": 2}),
    (
        "/v1/chat/completions",
        {"messages": [SAID], "add_generation_prompt": True, "continue_final_message": True},
    ),
    ("/v1/completions", {"prompt": []}),
    ("/v1/completions", {"prompt": "x", "best_of": 2, "stream": True}),
    ("/v1/completions", {"prompt": ["x", [1]], "max_tokens": -2}),
    ("/v1/embeddings", {"input": []}),
    ("/v1/responses", {"input": "x", "text": {"format": {"type": "json_schema", "schema": None}}}),
    ("/v1/responses", {"input": "x", "tools": [{"type": "poem"}]}),
    ("/v1/chat/completions", {"messages": [SAID], "tools": [{"type": "function"}]}),
    ("/v1/messages", {"messages": [SAID]}),
    ("/v1/messages", {"messages": [SAID], "max_tokens": -1}),
    ("/v1/messages", {"messages": [SAID], "max_tokens": 3, "thinking": {"type": "often"}}),
    ("/v1/messages/count_tokens", {"messages": []}),
    ("/v1/images/generations", {"prompt": "x", "partial_images": 2}),
    ("/v1/images/generations", {"prompt": "x", "size": "0x10"}),
    ("/v1/images/generations", {"prompt": "x", "seeds": [1, 2], "n": 2}),
    ("/v1/images/generations", {"prompt": "x", "variations": [{"seed": 1, "strength": 0.5}], "n": 2}),
    ("/v1/images/generations", {"prompt": "x", "size": "32x32", "width": 32}),
    ("/v1/images/generations", {"prompt": "x", "guidance": -1}),
    ("/v1/images/generations", {"prompt": "x", "background": "transparent"}),
    ("/v1/images/generations", {"prompt": "x", "stream": True, "response_format": "url"}),
    ("/v1/images/edits", {"prompt": "x"}),
    ("/v1/images/edits", {"prompt": "x", "image": {"file_id": "x"}}),
    ("/v1/images/edits", {"prompt": "x", "image": URI, "mask": {"file_id": "x"}}),
    ("/v1/images/generations", {"prompt": "x", "mask": URI}),
    ("/models/stop", {"keep_alive": "soon"}),
]


@pytest.fixture(scope="module")
def content() -> Any:
    app: Any = Gateway(Settings()).asgi(APIS)
    return Document("", app.routes[:-1]).content


def status(path: str, body: dict[str, Any]) -> int:
    """What a gateway says that has no models."""

    async def ask() -> int:
        transport = httpx2.ASGITransport(Gateway(Settings()).asgi(APIS))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post(path, json=body)).status_code

    return asyncio.run(ask())


def is_valid(content: Any, path: str, body: dict[str, Any]) -> bool:
    schema = content["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    whole = {"components": content["components"], **schema}
    return bool(jsonschema.Draft202012Validator(whole).is_valid(body))


def named(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return body if path in ("/api/show", "/api/pull", "/api/copy") else {"model": "nobody", **body}


@pytest.mark.parametrize(("path", "body"), ALLOWED, ids=lambda value: str(value)[:80])
def test_what_the_document_allows_is_read(content: Any, path: str, body: dict[str, Any]) -> None:
    body = named(path, body)
    assert is_valid(content, path, body)
    assert status(path, body) == (200 if path == "/models/stop" else 404)


@pytest.mark.parametrize(("path", "body"), REFUSED, ids=lambda value: str(value)[:80])
def test_what_is_refused_is_not_allowed_by_the_document(
    content: Any, path: str, body: dict[str, Any]
) -> None:
    body = named(path, body)
    assert status(path, body) == 400
    assert not is_valid(content, path, body)


def test_a_form_has_no_null(content: Any) -> None:
    edits = content["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    whole = jsonschema.Draft202012Validator({"components": content["components"], **edits})
    form = {"model": "x", "prompt": "y", "image": "z"}
    assert whole.is_valid(form)
    for wrong in ({"n": None}, {"markup": "x"}, {"prompt": ""}, {"partial_images": 2}):
        assert not whole.is_valid(form | wrong)
