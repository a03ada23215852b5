"""The form of an answer in the terms of several servers: OpenAI's response_format, vLLM's and llama.cpp's fields."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.text import Grammar

Schema = dict[str, Any] | bool


class JsonSchema(Struct, frozen=True, rename={"definition": "schema"}):
    name: str | None = None
    definition: Schema | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, rename={"definition": "schema"}):
    """`schema`: llama.cpp's place for it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    definition: Schema | None = None


NAMED_SCHEMA = rules.has(
    "json_schema", {"type": "object"} | rules.has("schema", {"type": ["object", "boolean"]})
)
SCHEMA_RULE = rules.either(
    {"type": "null"},
    {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}},
    {"type": "object"} | NAMED_SCHEMA,
    {"type": "object"} | rules.has("schema", {"type": ["object", "boolean"]}),
)
Format = Annotated[ResponseFormat | None, Meta(extra_json_schema={"allOf": [SCHEMA_RULE]})]


class StructuredOutputs(Struct, frozen=True):
    """vLLM's."""

    json: dict[str, Any] | str | bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Structured(Struct, frozen=True, kw_only=True):
    """Fields of a request; at most one may say what the answer is held to."""

    response_format: Format = None
    json_schema: Schema | None = None
    grammar: str | None = None  # in Lark's syntax, or llama.cpp's
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | bool | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None


def form_of(request: Structured) -> dict[str, Any]:
    """The field of the engine's request that holds its answer to a form, if it is held to one."""
    forms = {
        "response_format": _format(request.response_format),
        "json_schema": _json(request.json_schema, "json_schema"),
        "grammar": _grammar("lark", request.grammar),
        "guided_json": _json(request.guided_json, "guided_json"),
        "guided_regex": _grammar("regex", request.guided_regex),
        "guided_choice": _choice(request.guided_choice),
        "guided_grammar": _grammar("lark", request.guided_grammar),
    }
    if request.structured_outputs is not None:
        outputs = request.structured_outputs
        forms |= {
            "structured_outputs.json": _json(outputs.json, "structured_outputs.json"),
            "structured_outputs.regex": _grammar("regex", outputs.regex),
            "structured_outputs.choice": _choice(outputs.choice),
            "structured_outputs.grammar": _grammar("lark", outputs.grammar),
            "structured_outputs.json_object": {"format": "json"} if outputs.json_object else {},
        }
    given = {name: form for name, form in forms.items() if form}
    if len(given) > 1:
        first, second = list(given)[:2]
        raise BadRequest(f"{second}: it cannot be combined with {first}; an answer has one form")
    return next(iter(given.values()), {})


def _format(format: ResponseFormat | None) -> dict[str, Any]:
    if format is None or format.type == "text":
        return {}
    named = format.json_schema.definition if format.json_schema else None
    schema = format.definition if named is None else named
    if schema is not None:
        return {"format": schema}
    if format.type == "json_object":
        return {"format": "json"}
    raise BadRequest("response_format.json_schema.schema is missing; it must be a JSON schema")


def _json(schema: Any, name: str) -> dict[str, Any]:
    if isinstance(schema, str):
        try:
            schema = msgspec.json.decode(schema)
        except (msgspec.DecodeError, RecursionError):
            schema = None
        if not isinstance(schema, dict | bool):
            raise BadRequest(f"{name}: the text is not a JSON schema")
    return {} if schema is None else {"format": schema}


def _grammar(syntax: Literal["lark", "regex"], definition: str | None) -> dict[str, Any]:
    return {"grammar": Grammar(syntax, definition)} if definition else {}


def _choice(texts: list[str] | None) -> dict[str, Any]:
    return {} if texts is None else {"choice": texts}
