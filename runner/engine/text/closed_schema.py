"""Objects in a schema end after the properties that it names, unless it says otherwise: small models invent more and more.

JSON Schema allows any others. An object stays open if its schema says `additionalProperties`, names no properties, or is
combined with other schemas, whose properties it does not name.
"""

from collections.abc import Iterator, Mapping
from typing import Any

NOTE = "objects end after the properties that the schema names; with additionalProperties: true there may be others"
# With any of these keywords, properties beyond `properties` may be meant.
OPEN_KEYWORDS = {
    *("additionalProperties", "unevaluatedProperties", "patternProperties", "dependentSchemas"),
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "then", "else", "not"),
}
# Keywords that say what an object has.
OBJECT_KEYWORDS = OPEN_KEYWORDS | {"properties"}
OTHER_VALUES = ("items", "additionalProperties", "contains")  # schemas of other values than the object itself
COMBINING = ("allOf", "anyOf", "oneOf")
DEFINITIONS = ("$defs", "definitions")


def close_objects(schema: Any) -> bool:
    """Close the objects of a schema, in place. Whether there were any to close."""
    return _close(schema, "#", False, _combined(schema))


def _combined(schema: Any) -> set[str]:
    """The references in a schema to what is combined with other schemas somewhere."""
    combined: set[str] = set()
    waiting: list[tuple[Any, bool, bool]] = [(schema, False, False)]
    while waiting:
        here, also, seen = waiting.pop()
        if not isinstance(here, dict):
            continue
        reference = here.get("$ref")
        if isinstance(reference, str) and reference not in combined and (also or _says_more(here, "$ref")):
            combined.add(reference)
            waiting.append((_target(schema, reference), True, True))
        # Of what was seen before, only what describes the same value may have changed.
        waiting += [(child, other, seen) for child, _, other in _children(here, also) if other or not seen]
    return combined


def _target(schema: Any, reference: str) -> Any:
    """What an internal reference stands for; None if there is nothing."""
    for key in reference.removeprefix("#").split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        elif isinstance(schema, dict):
            schema = schema.get(key)
        else:
            return None
    return schema


def _close(schema: Any, path: str, combined: bool, references: set[str]) -> bool:
    if not isinstance(schema, dict):
        return False
    combined = combined or path in references
    closes = bool(schema.get("properties")) and not combined and not OPEN_KEYWORDS & schema.keys()
    inner = [
        _close(child, f"{path}/{place}", also, references)
        for child, place, also in _children(schema, combined)
    ]
    if closes:
        schema["additionalProperties"] = False
    return closes or any(inner)


def _children(schema: Mapping[str, Any], combined: bool) -> Iterator[tuple[Any, str, bool]]:
    """The schemas in a schema, with their places in a reference, and whether others describe the same value."""
    for name in ("properties", *DEFINITIONS):
        if isinstance(schema.get(name), dict):
            for key, child in schema[name].items():
                yield child, f"{name}/{_escaped(key)}", False
    for name in OTHER_VALUES:
        yield schema.get(name), name, False
    for name in ("prefixItems", *COMBINING):
        if isinstance(schema.get(name), list):
            several = name == "allOf" and len(schema[name]) > 1
            also = name in COMBINING and (combined or several or _says_more(schema, name))
            for index, child in enumerate(schema[name]):
                yield child, f"{name}/{index}", also
    for name in ("if", "then", "else", "not"):
        yield schema.get(name), name, True


def _says_more(schema: Mapping[str, Any], keyword: str) -> bool:
    """Whether a schema says more about an object than by this keyword."""
    return bool((OBJECT_KEYWORDS - {keyword}) & schema.keys())


def _escaped(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
