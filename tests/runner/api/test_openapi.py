"""/openapi.json: what it says is all that there is, and the gateway keeps to it whatever is sent."""

from collections.abc import Iterator
from typing import Any

import pytest

from runner.api.registry import APIS
from runner.gateway.app import Gateway as Application
from runner.gateway.settings import Settings
from runner.http.openapi import PLACE
from runner.http.operation import operation_of
from tests.runner.gateway import live

# For people's browsers, not for programs; what is there to be refused, whatever is sent; and what takes any bytes.
PAGES = {"/page/{name}"}
REFUSED = {"/api/push"}
BYTES = {"/api/blobs/{digest}"}


@pytest.fixture(scope="module")
def document(gateway: live.Gateway) -> Any:
    answer = gateway.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_every_route_is_described_and_every_description_is_a_route(document: Any) -> None:
    app: Any = Application(Settings()).asgi(APIS)
    described = {
        (route.path.replace(":path}", "}"), method)
        for route in app.routes
        if operation_of(route.endpoint)
        for method in route.methods - {"HEAD"}
    }
    said = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert said == described
    bare = {route.path for route in app.routes} - {
        route.path for route in app.routes if operation_of(route.endpoint)
    }
    assert bare <= PAGES | REFUSED | BYTES, "a handler is described by @operation"


def test_the_document_is_valid_and_whole(document: Any) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="the clients group is not installed")
    validator.validate(document)
    used = set(references(document))
    assert used == set(document["components"]["schemas"])
    ids = [about["operationId"] for path in document["paths"].values() for about in path.values()]
    assert len(set(ids)) == len(ids)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(PLACE)
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_requests_have_the_limits_that_they_are_read_with(document: Any) -> None:
    schemas = document["components"]["schemas"]
    chat = schemas["openai.chat.ChatRequest"]
    assert chat["required"] == ["model", "messages"]
    assert {"type": "number", "minimum": 0, "maximum": 2} in chat["properties"]["temperature"]["anyOf"]
    sent = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    refused = sent["schema"]["allOf"][1]["properties"]["audio"]
    assert refused == {
        "type": "null",
        "description": "Refused: audio is not supported; this server answers in text",
    }


def test_answers_say_what_is_always_there(document: Any) -> None:
    schemas = document["components"]["schemas"]
    always, fields = schemas["ChatCompletion"]["required"], schemas["ChatCompletion"]["properties"]
    assert set(always) == fields.keys() - {"warnings"}
    assert "reasoning_content" not in schemas["openai.schemas.Message"]["required"]
