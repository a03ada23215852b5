"""Tools and tool calls in OpenAI's format."""

from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from runner.api.openai.tool_types import LEFT_OUT, RUN, Tools
from runner.api.tool_choice import Choice, Toolbox, select_tools
from runner.errors import BadRequest
from runner.http import rules

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Function(Struct, frozen=True, omit_defaults=True):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    """`name` and `tools`: of a namespace."""

    type: Annotated[str, Meta(extra_json_schema={"enum": [*RUN, *sorted(LEFT_OUT)]})]
    function: Function | None = None
    custom: dict[str, Any] | None = None
    name: str | None = None
    tools: list[dict[str, Any]] | None = None


TOOL_RULE = rules.either(
    *(rules.has("type", {"const": kind}) | {"required": [kind]} for kind in ("function", "custom")),
    {"properties": {"type": {"not": {"enum": ["function", "custom"]}}}},
)


def read_tools(tools: list[Tool] | None) -> Tools:
    return Tools.read([_flat(tool, f"tools[{index}]") for index, tool in enumerate(tools or [])])


def toolbox(tools: Tools, choice: str | Choice | None) -> Toolbox:
    """The tools of a request that its tool_choice allows."""
    functions = {name: _engine_tool(tool["function"]) for name, tool in tools.functions.items()}
    if choice == "required" and not functions and tools.warnings:
        choice = None
        tools.warnings.append("tool_choice: required has no effect, because every tool was left out")
    return replace(select_tools(functions, choice), warnings=tools.warnings)


def _flat(tool: Tool, place: str) -> dict[str, Any]:
    """A tool as /v1/responses knows it: its fields stand beside its type."""
    if tool.type == "namespace":
        inner = [{**one, **_nested(one)} for one in tool.tools or []]
        return {"type": tool.type, "name": tool.name, "tools": inner}
    if tool.type == "function":
        if tool.function is None:
            raise BadRequest(f"{place}.function is missing; its name and parameters are needed")
        return {"type": tool.type, **msgspec.to_builtins(tool.function)}
    if tool.type == "custom":
        if tool.custom is None:
            raise BadRequest(f"{place}.custom is missing; its name is needed")
        format = tool.custom.get("format")
        grammar = format.get("grammar") if isinstance(format, dict) else None
        flat = {"format": {"type": "grammar", **grammar}} if isinstance(grammar, dict) else {}
        return {"type": tool.type, **tool.custom, **flat}
    return {"type": tool.type}


def _nested(tool: dict[str, Any]) -> dict[str, Any]:
    inner = tool.get(str(tool.get("type")))
    return inner if isinstance(inner, dict) else {}


def _engine_tool(function: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "name": function["name"],
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": fields}
