"""Answers that must be a tool call: the JSON schema that constrains them, and the resulting call."""

import json
from typing import Any

import msgspec

from runner.engine.text.call_stream import CallDeltas
from runner.engine.text.closed_schema import OPEN_KEYWORDS, close_objects
from runner.engine.text.output_parser import ParsedDelta
from runner.errors import BadRequest

Tool = dict[str, Any]


class RequiredCall:
    """Used instead of an OutputParser if the grammar makes the answer one call. A call that was cut is content, unless it
    was passed on while it was written (`calls`)."""

    def __init__(self, calls: CallDeltas | None = None) -> None:
        self._text = ""
        self._calls = calls

    def push(self, text: str) -> ParsedDelta:
        self._text += text
        return ParsedDelta(call_deltas=self._calls.read(self._text) if self._calls else [])

    def finish(self) -> ParsedDelta:
        if self._calls is not None:
            deltas = self._calls.read(self._text, cut=True)
            return ParsedDelta("" if self._calls.end() else self._text, call_deltas=deltas)
        try:
            call = msgspec.json.decode(self._text)
        except msgspec.DecodeError:
            return ParsedDelta(self._text)
        return ParsedDelta(tool_calls=[call])


def call_schema(tools: list[Tool]) -> dict[str, Any]:
    """The schema of a call of one of the tools. Their own schemas are moved to $defs along with their references."""
    calls, definitions = [], {}
    for index, tool in enumerate(tools):
        name, parameters = _signature(tool, f"tools[{index}].function")
        definitions[f"tool{index}"] = _moved(_closed(parameters), f"#/$defs/tool{index}")
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/tool{index}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    one = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**one, "$defs": definitions}


def _signature(tool: Tool, path: str) -> tuple[str, dict[str, Any]]:
    function = tool.get("function")
    if not isinstance(function, dict):
        raise BadRequest(f"{path} is missing; it must be an object with a name and parameters")
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{path}.name is missing; it must be a string")
    if parameters is None:
        return name, {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise BadRequest(f"{path}.parameters: it must be a JSON schema as an object")
    return name, parameters


def _closed(parameters: dict[str, Any]) -> dict[str, Any]:
    """A copy in which objects have only what is named. Arguments of which none are named are none."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(parameters))
        close_objects(copy)
    except RecursionError:
        raise BadRequest("tools: the schema is nested too deeply") from None
    if isinstance(copy.get("properties"), dict) and not OPEN_KEYWORDS & copy.keys():
        copy["additionalProperties"] = False
    return copy


def _moved(schema: Any, path: str) -> Any:
    """A copy of a schema for use at `path` in another one: its internal references are changed."""
    if isinstance(schema, list):
        return [_moved(item, path) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: _moved(value, path) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        copy["$ref"] = path + reference[1:]
    return copy
