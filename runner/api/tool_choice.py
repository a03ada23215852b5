"""`tool_choice`, which OpenAI's API and Ollama's share: which tools may be called, and whether one must be."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta, Struct

from runner.errors import BadRequest
from runner.http import rules


class Named(Struct, frozen=True):
    name: str


class Allowed(Struct, frozen=True):
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


# Besides these, one or several functions from the tools.
CHOICES = ("none", "auto", "required")
CHOICE_RULE = rules.either(
    {"properties": {"tool_choice": {"enum": [None, "none", "auto"]}}},
    rules.has("tools", {"type": "array", "minItems": 1}),
)
ChoiceName = Annotated[str, Meta(extra_json_schema={"enum": CHOICES})]


class Choice(Struct, frozen=True):
    type: Annotated[str, Meta(extra_json_schema={"enum": ["function", "custom", "allowed_tools"]})]
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: Allowed | None = None


class ToolFields(TypedDict, total=False):
    tools: list[dict[str, Any]]
    tool_choice: Literal["required"]


@dataclass(frozen=True)
class Toolbox:
    """`tools` for the chat template. `must`: a grammar holds the answer to a call of one of them. `warnings`: what was
    left out of a request."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    must: bool = False
    warnings: list[str] = field(default_factory=list)

    def request_fields(self) -> ToolFields:
        """The fields of a request that concern tools."""
        if not self.tools:
            return {}
        return {"tools": self.tools, "tool_choice": "required"} if self.must else {"tools": self.tools}


def select_tools(tools: dict[str, dict[str, Any]], choice: str | Choice | None) -> Toolbox:
    """The tools that may be called, and whether one must be."""
    names, must = _select(choice, list(tools))
    if must and not names:
        raise BadRequest("tool_choice: a call is required, but tools is empty")
    return Toolbox([tools[name] for name in names], must)


def _select(choice: str | Choice | None, tools: list[str]) -> tuple[list[str], bool]:
    """The names that may be called, and whether one must be."""
    if choice is None or choice == "auto":
        return tools, False
    if choice == "none":
        return [], False
    if choice == "required":
        return tools, True
    if isinstance(choice, Choice) and choice.type == "function" and choice.function:
        return [_check_name(choice.function.name, tools)], True
    if isinstance(choice, Choice) and choice.type == "custom" and choice.custom:
        return [_check_name(choice.custom.name, tools)], True
    if isinstance(choice, Choice) and choice.type == "allowed_tools" and choice.allowed_tools:
        functions = [
            tool.get("function") or tool.get("custom") or tool for tool in choice.allowed_tools.tools
        ]
        names = [_check_name(str(function.get("name")), tools) for function in functions]
        return names, choice.allowed_tools.mode == "required"
    name = choice if isinstance(choice, str) else choice.type
    raise BadRequest(
        f"tool_choice: {name[:64]!r} is not supported; use none, auto, required, a function or allowed_tools"
    )


def _check_name(name: str, tools: list[str]) -> str:
    if name not in tools:
        raise BadRequest(
            f"tool_choice: {name[:64]!r} is not one of the tools: {', '.join(tools)[:200] or 'there are none'}"
        )
    return name
