"""The OpenAPI document of an application, made from its routes and the types in their `@operation`."""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import metadata
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.http.operation import SSE, Operation, operation, operation_of
from runner.protocol.text import encode

Schema = dict[str, Any]

PLACE = "#/components/schemas/"
JSON, FORM = "application/json", "multipart/form-data"
# Errors of every operation, of those with a body, and of those that use a model.
EVERY = {
    400: "The request is invalid; the error names the field, its value and what is allowed.",
    401: "The API key is missing or wrong.",
    403: "The origin or the host is not allowed, or the hub requires a login.",
    500: "A runner died, or the server has an internal error.",
}
WITH_BODY = {
    413: "The body exceeds the limit.",
}
ASKING = {
    404: "There is no such model.",
    499: "The request was cancelled before it began.",
    502: "The hub is needed and does not respond.",
    503: "The queue is full, or the server is stopping; retry after the time in Retry-After.",
    507: "There is not enough memory or disk space for the model.",
}


class Document:
    """Describes `routes` and its own route. It is made on the first request."""

    def __init__(self, title: str, routes: Iterable[BaseRoute]) -> None:
        self._title = title
        self.routes = [*routes, Route("/openapi.json", self.answer)]

    @operation("This document", answer=dict[str, Any])
    async def answer(self, request: Request) -> Response:
        return Response(encode(self.content), media_type=JSON)

    @cached_property
    def content(self) -> Schema:
        described = list(_described(self.routes))
        schemas = Schemas([op for _, op in described])
        paths: Schema = {}
        for route, op in described:
            path = re.sub(r":\w+}", "}", route.path)
            for method in sorted((route.methods or set()) - {"HEAD"}) or ["HEAD"]:
                methods, described_here = paths.setdefault(path, {}), _operation(path, method, op, schemas)
                former = methods.setdefault(method.lower(), described_here)
                former["responses"] = _either(former["responses"], described_here["responses"])
        return {
            "openapi": "3.1.0",
            "info": {"title": self._title, "version": metadata.version("diptych")},
            "paths": paths,
            "components": {
                "schemas": schemas.components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            # Keys are optional.
            "security": [{}, {"key": []}],
        }


def _described(routes: Iterable[BaseRoute]) -> Iterator[tuple[Route, Operation]]:
    for route in routes:
        op = operation_of(route.endpoint) if isinstance(route, Route) else None
        if isinstance(route, Route) and op is not None:
            yield route, op


def _operation(path: str, method: str, op: Operation, schemas: "Schemas") -> Schema:
    words = re.findall(r"\w+", path) or ["root"]
    described: Schema = {
        "summary": op.summary,
        "operationId": "_".join([method.lower(), *words]),
        "tags": [op.tag],
        "responses": _responses(path, op, schemas),
    }
    names = re.findall(r"{(\w+)}", path)
    if names or op.query is not None:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ] + _query(op.query)
    if op.body is not None:
        content = {JSON: {"schema": schemas.body(op.body, op)}}
        if op.form is not None:
            content[FORM] = {"schema": schemas.form(op.form, op)}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _query(kind: Any) -> list[Schema]:
    fields = () if kind is None else msgspec.structs.fields(kind)
    return [
        {
            "name": one.encode_name,
            "in": "query",
            "schema": msgspec.json.schema(one.type) | _default(one.default),
            **({"required": True} if one.required else {}),
        }
        for one in fields
    ]


def _default(value: Any) -> Schema:
    return {} if value in (None, msgspec.NODEFAULT) else {"default": value}


def _responses(path: str, op: Operation, schemas: "Schemas") -> Schema:
    content: Schema = {kind: {"schema": {"type": "string"}} for kind in op.plain}
    if op.answer is not None:
        content[JSON] = {"schema": schemas.of(op.answer)}
    if op.events:
        piece = schemas.of(op.events)
        content[op.stream] = {"schema": _event(piece, op.sentinel) if op.stream == SSE else piece}
    meanings = {**EVERY, **(WITH_BODY if op.body is not None else {}), **(ASKING if op.asks else {})}
    if op.missing:
        meanings[404] = op.missing
    if "{" in path:
        meanings.setdefault(404, "Nothing with this name exists.")
    failure = {JSON: {"schema": schemas.of(op.failure)}}
    failures = {str(status): {"description": text, "content": failure} for status, text in meanings.items()}
    good: Schema = {"description": op.summary}
    return {str(op.status): {**good, "content": content} if content else good} | dict(
        sorted(failures.items())
    )


def _either(responses: Schema, others: Schema) -> Schema:
    """The responses of two operations with one path, which a header tells apart."""
    either = {**others, **responses}
    for status in responses.keys() & others.keys():
        content, other = responses[status].get("content", {}), others[status].get("content", {})
        if content != other:
            kinds = {
                kind: {"schema": {"anyOf": [one[kind]["schema"] for one in (content, other) if kind in one]}}
                for kind in {**content, **other}
            }
            either[status] = {**responses[status], "content": kinds}
    return dict(sorted(either.items()))


def _event(data: Schema, sentinel: str | None) -> Schema:
    """A server-sent event, whose data is a string with JSON; in the last one maybe something else."""
    content: Schema = {"type": "string", "contentMediaType": JSON, "contentSchema": data}
    if sentinel is not None:
        content = {"anyOf": [content, {"const": sentinel}]}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": content},
    }


class Schemas:
    """All types of the operations, as JSON Schema."""

    def __init__(self, operations: list[Operation]) -> None:
        bodies = [kind for op in operations for kind in _types((op.body, op.form))]
        answers = [kind for op in operations for kind in _types((op.answer, op.events, op.failure))]
        types = list(dict.fromkeys([*bodies, *answers]))
        schemas, components = msgspec.json.schema_components(types, ref_template=PLACE + "{name}")
        self._schemas = dict(zip(types, map(_shortened, schemas), strict=True))
        self.components: dict[str, Schema] = {
            _short(name): _shortened(value) for name, value in components.items()
        }
        sent = self._reached(bodies)
        spare = {self._name(kind) for kind in answers if _spares_defaults(kind)}
        for name in self._reached(answers) - sent - spare:
            _require_all(self.components[name])

    def of(self, kind: Any) -> Schema:
        """The schema of a type, of any type in a list, or of all types in a tuple."""
        if isinstance(kind, list):
            return self.of(kind[0]) if len(kind) == 1 else {"anyOf": [self.of(one) for one in kind]}
        if isinstance(kind, tuple):
            return {"allOf": [self.of(one) for one in kind]}
        schema: Schema = self._schemas[kind]
        return schema

    def body(self, kind: Any, op: Operation) -> Schema:
        nothing = {
            name: {"type": "null", "description": f"Refused: {why}"} for name, why in op.refused.items()
        }
        refused = [{"properties": nothing}] if nothing else []
        return _all([self.of(kind), *refused, *map(dict, op.rules)])

    def form(self, kind: Any, op: Operation) -> Schema:
        """Forms have no null: a field that is refused or left out is absent."""
        for value in self.components[self._name(kind)]["properties"].values():
            if value.pop("default", value) is None:
                value["anyOf"] = [one for one in value["anyOf"] if one != {"type": "null"}]
        refused = [{"properties": dict.fromkeys(op.refused, False)}] if op.refused else []
        return _all([self.of(kind), *refused, *map(dict, op.rules)])

    def _name(self, kind: Any) -> str:
        return str(self._schemas[kind].get("$ref", "")).removeprefix(PLACE)

    def _reached(self, kinds: Iterable[Any]) -> set[str]:
        """The components that these types refer to."""
        reached: set[str] = set()
        waiting = [name for kind in kinds for name in _references(self._schemas[kind])]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += _references(self.components[name])
        return reached


def _all(schemas: list[Schema]) -> Schema:
    return {"allOf": schemas} if len(schemas) > 1 else schemas[0]


def _types(kind: Any) -> Iterator[Any]:
    if isinstance(kind, list | tuple):
        for one in kind:
            yield from _types(one)
    elif kind is not None:
        yield kind


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value.removeprefix(PLACE)
            else:
                yield from _references(value)


def _short(name: str) -> str:
    """A class name that occurs in several modules is qualified: `openai.chat.ChatRequest`."""
    return ".".join(name.split(".")[-3:])


def _shortened(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_shortened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shortened = {key: _shortened(value) for key, value in schema.items()}
    reference = shortened.get("$ref")
    if isinstance(reference, str):
        shortened["$ref"] = PLACE + _short(reference.removeprefix(PLACE))
    # Its mapping repeats the alternatives, by their unshortened names.
    shortened.pop("discriminator", None)
    return shortened


def _spares_defaults(kind: Any) -> bool:
    return (
        isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.omit_defaults
    )


def _require_all(schema: Schema) -> None:
    """In a response, a field with a default is always present."""
    for name, value in schema.get("properties", {}).items():
        if value.pop("default", value) is not value:
            schema["required"].append(name)
