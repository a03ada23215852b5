"""Tools and calls of a chat as the values that Ollama gives a template."""

from collections.abc import Iterable, Mapping
from typing import Any

from models.tokenizers.go_template.lexer import GoTemplateError
from models.tokenizers.go_template.values import JSONList, JSONMap, Struct, Value

# The order of a property's fields in JSON; what else a schema has comes behind them.
_ORDER = ("anyOf", "type", "items", "description", "enum", "properties", "required")
_TYPE_SCRIPT = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "array": "any[]", "object": "Record<string, any>", "null": "null"}  # fmt: skip


def tool_values(tools: Iterable[Mapping[str, Any]]) -> JSONList:
    return JSONList(_tool(tool) for tool in tools)


def _tool(tool: Mapping[str, Any]) -> Struct:
    function = _mapping(tool.get("function", tool), "a tool's function")
    given = _mapping(function.get("parameters"), "a tool's parameters")
    kind, name = _text(tool.get("type"), "function"), _text(function.get("name"))
    described = _text(function.get("description"))
    properties = {
        key: _property(value) for key, value in _mapping(given.get("properties"), "properties").items()
    }
    required = list(given.get("required") or [])
    known = {"type": given.get("type") or "object"} | ({"required": required} if required else {})
    parameters = Struct(
        "ToolFunctionParameters",
        {"Type": known["type"], "Defs": given.get("$defs"), "Items": given.get("items"), "Required": required, "Properties": JSONMap(properties)},
        {**known, "properties": JSONMap(properties), **_others(given, ("type", "required", "properties"))},
    )  # fmt: skip
    called = Struct(
        "ToolFunction",
        {"Name": name, "Description": described, "Parameters": parameters},
        {"name": name, **({"description": described} if described else {}), "parameters": parameters},
    )
    return Struct(
        "Tool",
        {"Type": kind, "Items": tool.get("items"), "Function": called},
        {"type": kind, "function": called},
    )


def _property(value: Any) -> Struct:
    given = _mapping(value, "a property of a tool")
    json = {name: given[name] for name in _ORDER if given.get(name)} | _others(given, _ORDER)
    types = given.get("type") or []
    types = [types] if isinstance(types, str) else list(types)
    nested = _mapping(given.get("properties"), "properties")
    fields: dict[str, Value] = {
        "AnyOf": [_property(each) for each in given.get("anyOf") or []],
        "Type": types[0] if len(types) == 1 else types or "",
        "Items": given.get("items"),
        "Description": _text(given.get("description")),
        "Enum": list(given.get("enum") or []),
        "Properties": JSONMap({name: _property(each) for name, each in nested.items()}),
        "Required": list(given.get("required") or []),
    }
    fields["ToTypeScriptType"] = _type_script(types, fields["AnyOf"])
    return Struct("ToolProperty", fields, json)


def _type_script(types: list[Any], any_of: list[Struct]) -> str:
    if any_of:
        return " | ".join(str(each.fields["ToTypeScriptType"]) for each in any_of)
    return " | ".join(_TYPE_SCRIPT.get(str(each), "any") for each in types) or "any"


def tool_call(call: Mapping[str, Any], at: int) -> Struct:
    function = _mapping(call.get("function", call), "a call's function")
    arguments = function.get("arguments") or {}
    written: Value = (
        JSONMap(arguments) if isinstance(arguments, Mapping) else arguments
    )  # a call that was cut is text
    name, identity = _text(function.get("name")), _text(call.get("id"))
    called = Struct(
        "ToolCallFunction",
        {"Index": at, "Name": name, "Arguments": written},
        {"index": at, "name": name, "arguments": written},
    )
    json = {**({"id": identity} if identity else {}), "function": called}
    return Struct("ToolCall", {"ID": identity, "Function": called}, json)


def _others(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in known and value is not None}


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise GoTemplateError(f"{what} has to be an object")
    return value


def _text(value: Any, default: str = "") -> str:
    return value if isinstance(value, str) and value else default
