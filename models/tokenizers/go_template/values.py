"""The values of a Go template: what is true, how they are written, and their JSON.

Text, numbers, truth values, lists and mappings are Python's; nil is None. What is a struct in Ollama is a Struct.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

Value: TypeAlias = Any

_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


@dataclass(frozen=True)
class Struct:
    """`fields` by their names in Go, `json` by those in JSON, in their order. `writes_json`: written out it is JSON."""

    type: str
    fields: Mapping[str, Value]
    json: Mapping[str, Value]
    writes_json: bool = True


class JSONList(list[Value]):
    """A list that is JSON where it is written out."""


class JSONMap(dict[str, Value]):
    """A mapping that is JSON where it is written out."""


def is_true(value: Value) -> bool:
    """Structs are, and what is not empty, zero or nil."""
    return isinstance(value, Struct) or bool(value)


def type_name(value: Value) -> str:
    if isinstance(value, Struct):
        return value.type
    names: list[tuple[Any, str]] = [
        (bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (Sequence, "[]interface {}"),
        (Mapping, "map[string]interface {}"),
    ]  # fmt: skip
    return next((name for kind, name in names if isinstance(value, kind)), "nil")


def as_text(value: Value, inside: bool = False) -> str:
    """As Go's fmt writes it with %v; `inside` of a list or mapping."""
    match value:
        case None:
            return "<nil>" if inside else "<no value>"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case float():
            return float_text(value, 6)
        case Struct() if not value.writes_json:
            return "{" + " ".join(as_text(field, True) for field in value.fields.values()) + "}"
        case Struct() | JSONList() | JSONMap():
            return as_json(value)
        case Mapping():
            return "map[" + " ".join(f"{key}:{as_text(value[key], True)}" for key in sorted(value)) + "]"
        case Sequence():
            return "[" + " ".join(as_text(item, True) for item in value) + "]"
    return str(value)


def float_text(value: float, large: int) -> str:
    """The shortest digits, with an exponent from 10 to the power of `large` on."""
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else ("+Inf" if value > 0 else "-Inf")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1
    if value == 0:
        return "-0" if sign else "0"
    if -4 <= power < large:
        return format(Decimal(repr(value)).normalize(), "f")
    written = "".join(map(str, digits))
    fraction = f".{written[1:]}" if len(written) > 1 else ""
    return f"{'-' if sign else ''}{written[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


def as_json(value: Value) -> str:
    """As Go's encoding/json writes it."""
    match value:
        case Struct():
            return (
                "{"
                + ",".join(f"{_json_text(name)}:{as_json(item)}" for name, item in value.json.items())
                + "}"
            )
        case Mapping():
            return (
                "{" + ",".join(f"{_json_text(str(key))}:{as_json(value[key])}" for key in sorted(value)) + "}"
            )
        case str():
            return _json_text(value)
        case Sequence():
            return "[" + ",".join(map(as_json, value)) + "]"
        case float():
            return _json_float(value)
    return json.dumps(value)


def _json_float(value: float) -> str:
    text = float_text(value, 21)
    if 1e-6 <= abs(value) < 1e-4:
        return format(Decimal(repr(value)), "f")
    return text.replace("e-0", "e-")


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_HTML)
