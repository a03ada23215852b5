"""An error can end any stream: what is sent then is among the events that the document lists."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from runner.api.registry import APIS
from runner.gateway.app import Gateway as Application
from runner.gateway.settings import Settings
from runner.http.openapi import Document
from runner.http.operation import NDJSON, SSE
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

jsonschema = pytest.importorskip("jsonschema", reason="the clients group is not installed")

WHY = "the keys and values do not fit any more"
SEA: Any = [{"role": "user", "content": "The sea"}]
BODIES: dict[str, Any] = {
    "/completion": {"prompt": "The sea"},
    "/v1/completions": {"prompt": "The sea"},
    "/v1/chat/completions": {"messages": SEA},
    "/v1/responses": {"input": "The sea"},
    "/v1/messages": {"messages": SEA, "max_tokens": 9},
    "/api/generate": {"prompt": "The sea"},
    "/api/chat": {"messages": SEA},
}
# What stands in an error's event.
OPENAI = {"error": {"message": WHY, "type": "server_error", "param": None, "code": None}}
EVENT = {"type": "error", "sequence_number": 3, "code": None, "message": WHY, "param": None}
ANTHROPIC = {"type": "error", "error": {"type": "api_error", "message": WHY}, "request_id": "x"}
ERRORS: dict[str, Any] = {"/v1/responses": EVENT, "/v1/messages": ANTHROPIC, "/v1/": OPENAI, "/chat/completions": OPENAI, "/completions": OPENAI, "/api/": {"error": WHY}, "/": {"error": WHY, "done": True}}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> Any:
    app: Any = Application(Settings()).asgi(APIS)
    return Document("", app.routes[:-1]).content


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`a` writes something, and then it fails."""
    say = ["x", {"error": WHY, "done": True}]
    model = pretend_model(tmp_path_factory.mktemp("pretend") / "a", say=say, broken=True)
    with Gateway({"a": model}) as gateway:
        yield gateway


def streams(document: Any) -> dict[str, Any]:
    """The schema of the JSON in an event, by the path."""
    errors = {}
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("responses", {}).get("200", {}).get("content", {})
        if SSE in content:
            data = content[SSE]["schema"]["properties"]["data"]
            errors[path] = (data.get("anyOf") or [data])[0]["contentSchema"]
        elif NDJSON in content:
            errors[path] = content[NDJSON]["schema"]
    return errors


def check(document: Any, path: str, event: Any) -> None:
    schema = {**streams(document)[path], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(event)


def test_every_stream_lists_its_error(document: Any) -> None:
    assert BODIES.keys() <= streams(document).keys()
    for path in streams(document):
        check(document, path, next(error for prefix, error in ERRORS.items() if path.startswith(prefix)))


@pytest.mark.parametrize("path", BODIES)
def test_what_fails_in_a_stream_is_said_as_the_document_says(
    gateway: Gateway, document: Any, path: str
) -> None:
    answer = gateway.http.post(path, json={"model": "a", "stream": True, **BODIES[path]})
    assert answer.status_code == 200
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if "{" in line]
    pieces = list(map(json.loads, data))
    assert len(pieces) > 1
    for piece in pieces:
        check(document, path, piece)
    # A response also has a last event of its own, with all of it.
    last = -2 if path == "/v1/responses" else -1
    assert all(WHY in json.dumps(piece) for piece in pieces[last:])
    assert WHY not in json.dumps(pieces[:last])
