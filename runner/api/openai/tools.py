"""Tools in OpenAI's shape: what may be called, what must be, and the calls that were made."""

import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from runner.api.openai.schemas import Call, CalledFunction
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


class Named(Struct, frozen=True):
    name: str


class Allowed(Struct, frozen=True):
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


# Beside these a function, or several, that have to be among the tools.
CHOICES = ("none", "auto", "required")
CHOICE_RULE = rules.either(
    {"properties": {"tool_choice": {"enum": [None, "none", "auto"]}}},
    rules.has("tools", {"type": "array", "minItems": 1}),
)
ChoiceName = Annotated[str, Meta(extra_json_schema={"enum": CHOICES})]


TOOL_RULE = rules.has("function", {"type": "object"})
# With tools an answer follows no other format.
TEXT_RULE = rules.either({"type": "null"}, {"properties": {"type": {"const": "text"}}})


class Choice(Struct, frozen=True):
    type: Annotated[str, Meta(extra_json_schema={"enum": ["function", "allowed_tools"]})]
    function: Named | None = None
    allowed_tools: Allowed | None = None


@dataclass(frozen=True)
class Toolbox:
    """`tools` for the chat template. `must`: the answer is a call, held to the tools' schemas by a grammar."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    must: bool = False

    def native(self) -> dict[str, Any]:
        """Its fields of a native request."""
        if not self.tools:
            return {}
        return {"tools": self.tools} | ({"tool_choice": "required"} if self.must else {})


def toolbox(tools: list[Tool] | None, choice: str | Choice | None) -> Toolbox:
    """What a request's tools and tool_choice come to."""
    known = {function.name: function for function in map(_function, tools or [])}
    return chosen({name: _native(function) for name, function in known.items()}, choice)


def chosen(tools: dict[str, dict[str, Any]], choice: str | Choice | None) -> Toolbox:
    """Of native tools by their names, those that may be called, and whether one must be."""
    names, must = _chosen(choice, list(tools))
    if must and not names:
        raise BadRequest("tool_choice: a call is asked for, and tools holds none")
    return Toolbox([tools[name] for name in names], must)


def _function(tool: Tool) -> Function:
    if tool.type != "function":
        raise BadRequest(f"tools: type {tool.type[:64]!r} is not supported; function is")
    if tool.function is None:
        raise BadRequest("tools: function is missing; its name and parameters are needed")
    return tool.function


def _chosen(choice: str | Choice | None, known: list[str]) -> tuple[list[str], bool]:
    """The names that may be called, and whether one must be."""
    if choice is None or choice == "auto":
        return known, False
    if choice == "none":
        return [], False
    if choice == "required":
        return known, True
    if isinstance(choice, Choice) and choice.type == "function" and choice.function:
        return [_one(choice.function.name, known)], True
    if isinstance(choice, Choice) and choice.type == "allowed_tools" and choice.allowed_tools:
        functions = [tool.get("function") or tool for tool in choice.allowed_tools.tools]
        names = [_one(str(function.get("name")), known) for function in functions]
        return names, choice.allowed_tools.mode == "required"
    shown = choice if isinstance(choice, str) else choice.type
    raise BadRequest(
        f"tool_choice: {shown[:64]!r} is not supported; none, auto, required, a function or allowed_tools are"
    )


def _one(name: str, known: list[str]) -> str:
    if name not in known:
        raise BadRequest(
            f"tool_choice: {name[:64]!r} is not among tools; {', '.join(known)[:200] or 'none'} are"
        )
    return name


def _native(function: Function) -> dict[str, Any]:
    about = {
        "name": function.name,
        "description": function.description or "",
        "parameters": function.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": about}


def call_shown(call: dict[str, Any]) -> Call:
    """A native call in OpenAI's shape, with an id of its own."""
    arguments = msgspec.json.encode(call["arguments"]).decode()
    return Call(f"call_{uuid.uuid4().hex[:24]}", CalledFunction(call["name"], arguments))
