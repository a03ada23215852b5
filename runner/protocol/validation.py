"""Error messages for requests, which name the field, its value and what is allowed."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from runner.errors import BadRequest

T = TypeVar("T")

MISSING = re.compile(r"Object missing required field `(\w+)`")
EXPECTED = re.compile(r"Expected `([^`]+)`(?: (of length )?([<>]=?|==) ([^\s,]+))?(?:, got .*)?")
KINDS = {
    "int": "an integer", "float": "a number", "str": "text", "bool": "true, false", "array": "a list",
    "object": "an object",
}  # fmt: skip
BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than", "==": "exactly"}


def convert(kind: type[T], value: dict[str, Any], strict: bool) -> T:
    """The value as this type, with msgspec's validation errors."""
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
    """msgspec's message with the field and its value in front."""
    what, _, path = message.partition(" - at `")
    place = path.rstrip("`").removeprefix("$").removeprefix(".")
    if missing := MISSING.match(what):
        return f"{place}.{missing.group(1)} is missing".removeprefix(".")
    keys = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]|\[\.\.\.\]", path)
    if what.startswith("Invalid enum value"):
        needed = f"one of {', '.join(sorted(map(shown, _enumerated(kind, keys))))} is needed"
    else:
        needed = _needed(what)
    if not path:
        return needed
    for name, index in keys:
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            return f"{place}: {needed}"
    return f"{place or 'the body'}: {shown(value)} is not allowed; {needed}"


def _needed(what: str) -> str:
    """msgspec's "Expected `int` >= 1" in words."""
    match = EXPECTED.fullmatch(what)
    if match is None:
        what = what.replace("`", "")
        return what[0].lower() + what[1:]
    types, length, sign, bound = match.groups()
    *others, last = ", ".join(KINDS.get(name, name) for name in types.split(" | ")).split(", ")
    needed = f"{', '.join(others)} or {last}" if others else last
    if sign:
        unit = "" if not length else " item" if types == "array" else " character"
        plural = "s" if unit and bound != "1" else ""
        needed += f" of {BOUNDS[sign]} {bound.removesuffix('.0')}{unit}{plural}"
    return f"{needed} is needed"


def _enumerated(kind: Any, keys: list[tuple[str, str]]) -> set[Any]:
    """The values that an enumeration at this place of a type allows."""
    schema = msgspec.json.schema(kind)
    here = list(_alternatives(schema, schema.get("$defs", {})))
    for name, _ in keys:
        inner = [one.get("properties", {}).get(name) if name else one.get("items") for one in here]
        here = [one for schema_ in inner if schema_ for one in _alternatives(schema_, schema["$defs"])]
    return {value for one in here for value in one.get("enum", ())}


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema with references resolved, and each of the schemas that it offers as alternatives."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for one in schema.get("anyOf", ()):
        yield from _alternatives(one, definitions)
    yield schema


def shown(value: Any) -> str:
    """A value as an error message quotes it: at most a line."""
    if isinstance(value, dict | list):
        return kind_of(value) if value else f"an empty {'list' if isinstance(value, list) else 'object'}"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def check_finite(value: Any, path: str = "") -> None:
    """BadRequest for NaN or an infinity anywhere in a value, with its place."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"{path}: {value} is not a finite number")
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_finite(item, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_finite(item, f"{path}[{index}]")


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
