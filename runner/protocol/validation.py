"""What is wrong with a request, in words that name the field, what stood there and what is allowed."""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

MISSING = re.compile(r"Object missing required field (\w+)")


def convert(kind: type[T], value: dict[str, Any], strict: bool) -> T:
    """The value as this kind, with the validation errors of msgspec."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        if "got `float`" not in str(error):
            raise
        # JSON has one kind of number: 3.0 is the integer 3, and some clients write every number so.
        return msgspec.convert(_integers(value), kind, strict=strict)


def _integers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_integers(item) for item in value]
    return value


def explained(message: str, value: Any, kind: Any) -> str:
    """msgspec's words with the field in front, and the value that was found there."""
    what, _, path = message.partition(" - at `")
    what = what.replace("`", "")
    place = path.rstrip("`").removeprefix("$").removeprefix(".")
    if found := MISSING.match(what):
        return f"{place}.{found.group(1)} is missing".removeprefix(".")
    if not path:
        return what
    keys = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]|\[\.\.\.\]", path)
    if what.startswith("Invalid enum value"):
        what = f"one of {', '.join(sorted(map(shown, _enumerated(kind, keys))))} is needed"
    for name, index in keys:
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            return f"{place}: {what}"
    return f"{place or 'the body'}: {shown(value)} is not allowed; {what[0].lower()}{what[1:]}"


def _enumerated(kind: Any, keys: list[tuple[str, str]]) -> set[Any]:
    """What may stand at a place of a type, where only certain values may."""
    schema = msgspec.json.schema(kind)
    here = list(_alternatives(schema, schema.get("$defs", {})))
    for name, _ in keys:
        inner = [one.get("properties", {}).get(name) if name else one.get("items") for one in here]
        here = [one for schema_ in inner if schema_ for one in _alternatives(schema_, schema["$defs"])]
    return {value for one in here for value in one.get("enum", ())}


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema without references, and any of those it leaves the choice of."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for one in schema.get("anyOf", ()):
        yield from _alternatives(one, definitions)
    yield schema


def shown(value: Any) -> str:
    """A value in an error message, never longer than a line."""
    if isinstance(value, dict | list):
        return kind_of(value)
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
