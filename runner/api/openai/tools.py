"""Tools and tool calls in OpenAI's format."""

from typing import Annotated, Any

from msgspec import Meta, Struct

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
    type: Annotated[str, Meta(extra_json_schema={"const": "function"})]
    function: Function | None = None


TOOL_RULE = rules.has("function", {"type": "object"})


def toolbox(tools: list[Tool] | None, choice: str | Choice | None) -> Toolbox:
    """The tools of a request that its tool_choice allows."""
    functions = {function.name: _engine_tool(function) for function in map(_function, tools or [])}
    return select_tools(functions, choice)


def _function(tool: Tool) -> Function:
    if tool.type != "function":
        raise BadRequest(f"tools: type {tool.type[:64]!r} is not supported; only function is")
    if tool.function is None:
        raise BadRequest("tools: function is missing; its name and parameters are needed")
    return tool.function


def _engine_tool(function: Function) -> dict[str, Any]:
    fields = {
        "name": function.name,
        "description": function.description or "",
        "parameters": function.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": fields}
