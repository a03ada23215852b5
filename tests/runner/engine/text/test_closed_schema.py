"""Objects end after the properties that their schema names, wherever that keeps what the schema allows otherwise."""

import copy
from time import process_time
from typing import Any

import pytest

from runner.engine.text.closed_schema import close_objects

A = {"properties": {"a": {}}}
CLOSED = {**A, "additionalProperties": False}
B = {"properties": {"b": {}}}


def closed(schema: Any) -> Any:
    result = copy.deepcopy(schema)
    assert close_objects(result) is (result != schema)
    return result


@pytest.mark.parametrize(
    ("schema", "result"),
    [
        (A, CLOSED),
        ({"type": "array", "items": A}, {"type": "array", "items": CLOSED}),
        ({"prefixItems": [A, {"type": "string"}]}, {"prefixItems": [CLOSED, {"type": "string"}]}),
        ({"additionalProperties": A}, {"additionalProperties": CLOSED}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"allOf": [A], "description": "one"}, {"allOf": [CLOSED], "description": "one"}),
        (
            {"properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": A}},
            {"properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": CLOSED}, "additionalProperties": False},
        ),
        ({"$ref": "#/$defs/X", "title": "x", "$defs": {"X": A}}, {"$ref": "#/$defs/X", "title": "x", "$defs": {"X": CLOSED}}),
    ],
)  # fmt: skip
def test_objects_have_what_they_name(schema: Any, result: Any) -> None:
    assert closed(schema) == result


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "string"}},
        {**A, "patternProperties": {"^x": {}}},
        {**A, "unevaluatedProperties": False},
        {"allOf": [A, B]},
        {**A, "anyOf": [B, {"type": "null"}]},
        {"anyOf": [A], "oneOf": [B]},
        {"if": A, "then": B, "else": B},
        {"not": A},
        {"allOf": [{"$ref": "#/$defs/X"}, B], "$defs": {"X": A}},
        {"$ref": "#/$defs/X", "properties": {"b": {}}, "$defs": {"X": {"anyOf": [A, {"type": "null"}]}}},
        {"allOf": [{"$ref": "#/definitions/a~1b"}, B], "definitions": {"a/b": A}},
        {"allOf": [{"$ref": "#/$defs/X"}, B], "$defs": {"X": {"$ref": "#/$defs/Y"}, "Y": A}},
        {"properties": 3, "items": "x", "anyOf": {}, "$ref": 5, "$defs": []},
        {"allOf": [{"$ref": "#/none/of/these"}, {"$ref": "#"}]},
    ],
)
def test_objects_that_others_add_to_stay_open(schema: Any) -> None:
    assert closed(schema) == schema


def test_long_chains_of_combined_references_take_no_time() -> None:
    definitions = {str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}, B]} for i in reversed(range(2000))}
    began = process_time()
    closed({"$ref": "#/$defs/0", "$defs": definitions})
    assert process_time() - began < 1
