"""Tools and `tool_choice` of Anthropic's API. Tools of Anthropic's servers are left out, with a warning."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from runner.api.tool_choice import Choice, Named, Toolbox, select_tools
from runner.errors import BadRequest

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Tool(Struct, frozen=True):
    type: str | None = None
    name: Name | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoice(Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def _schema(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


TEXT = {"type": "string"}
NUMBERS = {"type": "array", "items": {"type": "integer"}}
EDITS = ["view", "create", "str_replace", "insert"]
# Tools that the client runs, which a request names without their schema: Anthropic's models know it.
CLIENT_TOOLS = {
    "bash": (
        "Run a command in a shell whose session persists. With restart, the session begins anew.",
        _schema([], command=TEXT, restart={"type": "boolean"}),
    ),
    "text_editor": (
        "View, create and edit text files. view shows a file or a folder, str_replace puts new_str in the place of "
        "old_str, which occurs once, and insert puts insert_text behind the line insert_line.",
        _schema(
            ["command", "path"],
            command={"type": "string", "enum": EDITS},
            path=TEXT,
            file_text=TEXT,
            old_str=TEXT,
            new_str=TEXT,
            insert_line={"type": "integer"},
            insert_text=TEXT,
            view_range=NUMBERS,
        ),
    ),
}


def read_tools(tools: list[Tool], choice: ToolChoice | None, warnings: list[str]) -> Toolbox:
    """The tools that may be called, and whether one must be."""
    functions: dict[str, dict[str, Any]] = {}
    for index, tool in enumerate(tools):
        function = _function(tool, f"tools[{index}]")
        if function is None:
            warnings.append(
                f"tools[{index}] was left out: tools of type {(tool.type or '')[:64]} cannot be run here"
            )
        else:
            functions[function["name"]] = {"type": "function", "function": function}
    return select_tools(functions, _choice(choice))


def _function(tool: Tool, place: str) -> dict[str, Any] | None:
    """None for a tool that Anthropic's servers would run, or that needs a model trained for it."""
    if tool.type in (None, "custom"):
        if tool.name is None:
            raise BadRequest(f"{place}.name is missing; it must be a string of 1 to 256 characters")
        if tool.input_schema is None:
            raise BadRequest(f"{place}.input_schema is missing; it must be a JSON schema as an object")
        return {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
    kind = (tool.type or "").rpartition("_")[0]
    if kind not in CLIENT_TOOLS:
        return None
    description, schema = CLIENT_TOOLS[kind]
    return {"name": tool.name or kind, "description": description, "parameters": schema}


def _choice(choice: ToolChoice | None) -> str | Choice | None:
    if choice is None or choice.type in ("auto", "none"):
        return None if choice is None else choice.type
    if choice.type == "any":
        return "required"
    if not choice.name:
        raise BadRequest("tool_choice.name is missing; it must be the name of a tool")
    return Choice("function", Named(choice.name))
