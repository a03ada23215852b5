"""`tool_choice`, which OpenAI's API and Ollama's share: which tools may be called, and whether one must be."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from runner.errors import BadRequest
from runner.http import rules


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


def chosen(tools: dict[str, dict[str, Any]], choice: str | Choice | None) -> Toolbox:
    """Of native tools by their names, those that may be called, and whether one must be."""
    names, must = _chosen(choice, list(tools))
    if must and not names:
        raise BadRequest("tool_choice: a call is asked for, and tools holds none")
    return Toolbox([tools[name] for name in names], must)


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
