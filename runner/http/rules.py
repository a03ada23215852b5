"""Constraints between the fields of a request, in JSON Schema: which fields require or exclude which others.

Only for the OpenAPI document: handlers check the same, with better messages.
"""

from typing import Any

Schema = dict[str, Any]

# Values that count as absent.
NOTHING: Schema = {"enum": [None, False, 0, "", [], {}]}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def has(name: str, value: Schema) -> Schema:
    """The field is present and matches."""
    return {"required": [name], "properties": {name: value}}


def is_absent(*names: str) -> Schema:
    """All of these fields are absent or empty."""
    return {"properties": dict.fromkeys(names, NOTHING)}


def needs(name: str, other: Schema) -> Schema:
    """If the field is not empty, `other` applies too."""
    return either(is_absent(name), other)


def excludes(name: str, *others: str) -> Schema:
    """If the field is not empty, the others are absent or empty."""
    return needs(name, is_absent(*others))


def needs_content(*instead: str) -> Schema:
    """A message has content or one of the fields `instead`, or it is the result of a tool."""
    return either(
        has("content", {"type": ["string", "array"]}),
        has("role", {"const": "tool"}),
        *(has(name, {"not": NOTHING}) for name in instead),
    )


def function(**properties: Schema) -> Schema:
    """A tool or a tool call: an object with a named function."""
    name = {"type": "string", "minLength": 1, "maxLength": 256}
    named = {"type": "object", "required": ["name"], "properties": {"name": name, **properties}}
    return {"required": ["function"], "properties": {"type": {"const": "function"}, "function": named}}
