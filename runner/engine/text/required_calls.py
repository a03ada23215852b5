"""An answer that must be a call of a tool: the schema that a grammar holds it to, and the call that it comes to."""

from typing import Any

import msgspec

from runner.engine.text.output_parser import ParsedDelta
from runner.errors import BadRequest

Tool = dict[str, Any]
# With any of these, an object's arguments may be named elsewhere, or more of them are meant.
ELSEWHERE = {
    *("additionalProperties", "unevaluatedProperties", "patternProperties", "dependentSchemas"),
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if"),
}


class RequiredCall:
    """In place of an OutputParser, for an answer that is one call by its grammar. Cut short, it is none."""

    def __init__(self) -> None:
        self._text = ""

    def push(self, text: str) -> ParsedDelta:
        self._text += text
        return ParsedDelta()

    def finish(self) -> ParsedDelta:
        try:
            call = msgspec.json.decode(self._text)
        except msgspec.DecodeError:
            return ParsedDelta()
        return ParsedDelta(tool_calls=[call]) if isinstance(call, dict) else ParsedDelta()


def call_schema(tools: list[Tool]) -> dict[str, Any]:
    """One call of one of the tools, as JSON. Their schemas keep their own references, at another place."""
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


def _signature(tool: Tool, place: str) -> tuple[str, dict[str, Any]]:
    function = tool.get("function")
    if not isinstance(function, dict):
        raise BadRequest(f"{place} is missing; its name and parameters are needed")
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{place}.name is missing; a string is needed")
    if parameters is None:
        return name, {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise BadRequest(f"{place}.parameters: a JSON schema is needed, as an object")
    return name, parameters


def _closed(parameters: dict[str, Any]) -> dict[str, Any]:
    """A plain object takes the arguments that it names: small models invent others, without end."""
    if isinstance(parameters.get("properties"), dict) and not ELSEWHERE & parameters.keys():
        return {**parameters, "additionalProperties": False}
    return parameters


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references into itself lead to another place."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: _moved(value, place) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        copy["$ref"] = place + reference[1:]
    return copy
