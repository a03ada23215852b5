"""Requests made of the document by schemathesis, right ones and wrong ones: each is answered as the document says."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from runner.api.registry import APIS
from runner.gateway.app import Gateway as Application
from runner.gateway.settings import Settings
from runner.http.openapi import Document
from runner.http.operation import NDJSON
from tests.runner.api.test_openapi import references
from tests.runner.fuzzing import many
from tests.runner.gateway.live import Gateway

schemathesis = pytest.importorskip("schemathesis", reason="the clients group is not installed")

JSON = "application/json"
SECONDS = 60
MODELS = ("toy", "klein", "plain", "nobody")
# What makes answers long, wherever it stands in a body, and how much is enough here.
MOST = {
    "max_tokens": 3, "max_completion_tokens": 3, "max_output_tokens": 3, "num_predict": 3,
    "width": 32, "height": 32, "steps": 1, "n": 2, "previews": 2,
}  # fmt: skip
# What stands there when nothing is said.
LENGTHS = {
    "/completion": {"num_predict": 3, "width": 32, "height": 32},
    "/v1/chat/completions": {"max_completion_tokens": 3},
    "/v1/responses": {"max_output_tokens": 3},
    "/v1/completions": {"max_tokens": 3},
    "/chat/completions": {"max_completion_tokens": 3},
    "/completions": {"max_tokens": 3},
    "/v1/messages": {"max_tokens": 3},
    "/v1/images/generations": {"size": "32x32"},
    "/v1/images/edits": {"size": "32x32"},
    "/api/chat": {"options": {"num_predict": 3}},
    "/api/generate": {"options": {"num_predict": 3}, "width": 32, "height": 32},
}
# A faked shortage is no fault: the hub cannot be asked for what might be its models.
FAULTS = {500, 501, 503, 504, 505, 507}


# What happens, for as long as somebody listens; tests/runner/api/gallery does.
ENDLESS = ("/gallery/jobs/events",)


def operations() -> list[tuple[str, str]]:
    app: Any = Application(Settings()).asgi(APIS)
    content = Document("", app.routes[:-1]).content
    paths = {path: methods for path, methods in content["paths"].items() if path not in ENDLESS}
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


@pytest.fixture(scope="module")
def schema(gateway: Gateway) -> Any:
    document = strict(gateway.http.get("/openapi.json").json())
    for model in ("toy", "klein", "plain"):
        gateway.http.post("/models/load", json={"model": model, "keep_alive": -1}).raise_for_status()
    return schemathesis.openapi.from_dict(document)


def strict(document: Any) -> Any:
    """The document, with answers that hold nothing else than it says."""
    schemas = document["components"]["schemas"]
    for path in document["paths"].values():
        for about in path.values():
            for name in reached(about["responses"], schemas):
                # What more an event of responses has depends on its type.
                if "properties" in schemas[name] and name != "ResponseEvent":
                    schemas[name]["additionalProperties"] = False
    return document


def reached(value: Any, schemas: Any) -> set[str]:
    found: set[str] = set()
    waiting = list(references(value))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += references(schemas[name])
    return found


def small(value: Any) -> Any:
    """The same, where it would take long."""
    if isinstance(value, list):
        return [small(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: small(item) for key, item in value.items()}
    for name, most in MOST.items():
        if isinstance(found.get(name), int | float) and found[name] > most:
            found[name] = most
    return found


def bounded(path: str, body: Any) -> Any:
    """Of a model that there is, and soon done."""
    body = small(body)
    if not isinstance(body, dict):
        return body
    for name in {"model", "name"} & body.keys():
        if isinstance(body[name], str) and body[name]:
            body[name] = MODELS[len(body[name]) % len(MODELS)]
    if isinstance(body.get("keep_alive"), int | float):
        body["keep_alive"] = 60  # loading takes time
    for name, value in LENGTHS.get(path, {}).items():
        if body.get(name) is None or (name == "size" and body[name] == "auto"):
            body[name] = value
        elif isinstance(value, dict) and isinstance(body[name], dict):
            body[name] = {**value, **body[name]}
    return body


def named(body: Any) -> Any:
    """With a name that no rule of a model's name objects to: of those `bounded` has a say."""
    if not isinstance(body, dict):
        return body
    names = {name for name in ("model", "name") if isinstance(body.get(name), str) and body[name]}
    return body | dict.fromkeys(names, "owner/name")


def checks(path: str, answer: Any, body: Any, obeys: bool) -> list[Any]:
    """All that say something of a single answer. What a document allows may still not fit together, or the model: so
    a refusal of it is an answer."""
    from schemathesis.specs.openapi import checks as known

    # Of what is for text, a model that draws says in its answer that it was ignored; and streams that tell of the
    # loading have begun when the request is read.
    drawn = path == "/api/generate" and isinstance(body, dict) and body.get("model") == "klein"
    told_later = path == "/completion" or drawn or answer.headers["content-type"] == [NDJSON]
    # Only of what does violate it: `bounded` may have mended the body, and one that obeys another of some alternatives is
    # taken for wrong.
    wrong = [] if told_later or obeys else [known.negative_data_rejection]
    return [
        known.status_code_conformance,
        known.content_type_conformance,
        known.response_headers_conformance,
        known.response_schema_conformance,
        *wrong,
    ]


def validator(document: Any, method: str, path: str) -> Callable[[Any], bool]:
    """Whether a body as JSON is what the document says of it."""
    from jsonschema import Draft202012Validator

    content = document["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    if JSON not in content:
        return lambda body: False
    return Draft202012Validator({**content[JSON]["schema"], "components": document["components"]}).is_valid


def keeps_to_the_document(schema: Any, method: str, path: str, examples: int) -> None:
    operation = schema[path][method]
    modes = schemathesis.GenerationMode
    obeys = validator(schema.raw_schema, method, path)

    def holds(case: Any) -> None:
        case.body = bounded(path, case.body)
        answer = case.call(timeout=SECONDS)
        assert answer.status_code not in FAULTS, answer.text
        case.validate_response(answer, checks=checks(path, answer, case.body, obeys(named(case.body))))

    cases = st.one_of(
        operation.as_strategy(generation_mode=mode) for mode in (modes.POSITIVE, modes.NEGATIVE)
    )
    many(examples, cases, derandomize=True)(holds)


@pytest.mark.parametrize(("method", "path"), operations())
def test_a_few_requests_of_each_kind(schema: Any, gateway: Gateway, method: str, path: str) -> None:
    schema.config.update(base_url=gateway.url)
    keeps_to_the_document(schema, method, path, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), operations())
def test_many_requests_of_each_kind(schema: Any, gateway: Gateway, method: str, path: str) -> None:
    schema.config.update(base_url=gateway.url)
    keeps_to_the_document(schema, method, path, 40)
