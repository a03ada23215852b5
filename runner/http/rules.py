"""What types cannot say of a request, in JSON Schema: which fields need, or exclude, which others.

For the OpenAPI document alone. Handlers check the same, in better words.
"""

from typing import Any

Schema = dict[str, Any]

# How clients leave a field out.
NOTHING: Schema = {"enum": [None, False, 0, "", [], {}]}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def has(name: str, value: Schema) -> Schema:
    """The field is there, and of this kind."""
    return {"required": [name], "properties": {name: value}}


def is_absent(*names: str) -> Schema:
    """None of the fields is there, unless it says nothing."""
    return {"properties": dict.fromkeys(names, NOTHING)}


def needs(name: str, other: Schema) -> Schema:
    """Where the field says something, this holds as well."""
    return either(is_absent(name), other)


def excludes(name: str, *others: str) -> Schema:
    """Where the field says something, the others do not."""
    return needs(name, is_absent(*others))


def needs_content(*instead: str) -> Schema:
    """A message has content, or something that may stand instead, or it is the result of a tool."""
    return either(
        has("content", {"type": ["string", "array"]}),
        has("role", {"const": "tool"}),
        *(has(name, {"not": NOTHING}) for name in instead),
    )


def function(**properties: Schema) -> Schema:
    """A tool or a call: an object with a function that has a name."""
    name = {"type": "string", "minLength": 1, "maxLength": 256}
    about = {"type": "object", "required": ["name"], "properties": {"name": name, **properties}}
    return {"required": ["function"], "properties": {"type": {"const": "function"}, "function": about}}
