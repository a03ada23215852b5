"""Tools of every type: functions and custom tools, also in namespaces. Those that other servers run are left out."""

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import Struct

from runner.errors import BadRequest
from runner.protocol.text import parse
from runner.protocol.validation import shown

LEFT_OUT = frozenset(
    [
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "local_shell",
        "shell",
        "computer",
        "computer_use",
        "computer_use_preview",
        "apply_patch",
        "tool_search",
        "programmatic_tool_calling",
    ]
)
RUN = ("function", "custom", "namespace")
# Choices that mean the same as no choice once the tool is left out.
CHOICES = ("function", "custom", "allowed_tools")
MOST_INPUT = {"type": "string"}


def flat_name(namespace: str, name: str) -> str:
    """A tool's name for the model, which knows no namespaces."""
    return namespace + name if namespace.endswith("_") else f"{namespace}__{name}"


class InputFormat(Struct, frozen=True):
    type: Literal["text", "grammar"] = "text"
    syntax: Literal["lark", "regex"] | None = None
    definition: str | None = None


class CustomTool(Struct, frozen=True):
    name: str
    description: str | None = None
    format: InputFormat | None = None


@dataclass
class Tools:
    """`functions` are all of them as functions, in the format of a chat; the others are by a function's name."""

    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    custom: dict[str, CustomTool] = field(default_factory=dict)
    namespaces: dict[str, tuple[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, tools: list[dict[str, Any]] | None) -> "Tools":
        read = cls()
        for index, tool in enumerate(tools or []):
            read._add(f"tools[{index}]", tool, "")
        return read

    def _add(self, place: str, tool: dict[str, Any], namespace: str) -> None:
        kind = tool.get("type")
        if kind == "namespace" and not namespace:
            self._add_namespace(place, tool)
        elif kind == "function":
            function = {key: tool[key] for key in tool.keys() & {"description", "parameters", "strict"}}
            self._add_function(place, tool.get("name"), namespace, function)
        elif kind == "custom":
            self._add_custom(place, tool, namespace)
        elif kind in LEFT_OUT:
            self.warnings.append(f"{place}: {kind} was left out: this server has no such tool")
        else:
            raise BadRequest(
                f"{place}.type: {shown(kind)} is not supported; supported are {', '.join(RUN)}, and those that are left "
                f"out: {', '.join(sorted(LEFT_OUT))}"
            )

    def _add_namespace(self, place: str, tool: dict[str, Any]) -> None:
        name, tools = tool.get("name"), tool.get("tools")
        if not isinstance(name, str) or not name:
            raise BadRequest(f"{place}.name is missing; it must be a string")
        if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
            raise BadRequest(f"{place}.tools: {shown(tools)} is not allowed; a list of tools is needed")
        for index, one in enumerate(tools):
            self._add(f"{place}.tools[{index}]", one, name)

    def _add_function(self, place: str, name: Any, namespace: str, function: dict[str, Any]) -> str:
        if not isinstance(name, str) or not name:
            raise BadRequest(f"{place}.name is missing; it must be a string")
        flat = flat_name(namespace, name) if namespace else name
        if flat in self.functions and flat in self.namespaces:
            raise BadRequest(f"{place}.name: {shown(name)} is the name of two tools: {flat}")
        if namespace:
            self.namespaces[flat] = (namespace, name)
        self.functions[flat] = {"type": "function", "function": {"name": flat, **function}}
        return flat

    def _add_custom(self, place: str, tool: dict[str, Any], namespace: str) -> None:
        try:
            custom = parse(CustomTool, tool)
        except BadRequest as error:
            raise BadRequest(f"{place}.{error.message}") from None
        about, input = custom.description or "", dict[str, Any](MOST_INPUT)
        if custom.format is not None and custom.format.type == "grammar":
            definition, syntax = custom.format.definition, custom.format.syntax
            if not definition or not syntax:
                raise BadRequest(f"{place}.format: a grammar needs syntax (lark or regex) and definition")
            about = f"{about}\n\nThe input must match this grammar ({syntax}):\n{definition}".strip()
            if syntax == "regex":
                input["pattern"] = f"^(?:{definition})$"
        parameters = {
            "type": "object",
            "properties": {"input": input},
            "required": ["input"],
            "additionalProperties": False,
        }
        name = self._add_function(
            place, custom.name, namespace, {"description": about, "parameters": parameters}
        )
        self.custom[name] = custom

    def held(self, choice: str | dict[str, Any] | None) -> str | None:
        """The custom tool that must be called and whose grammar is in Lark's notation, which JSON cannot hold: the answer
        is its input. Regular expressions are held inside the JSON of a call."""
        name = self._flat(choice) if isinstance(choice, dict) and choice.get("type") == "custom" else None
        if choice == "required" and len(self.functions) == 1:
            (name,) = self.functions
        custom = self.custom.get(name) if isinstance(name, str) else None
        lark = custom is not None and custom.format is not None and custom.format.syntax == "lark"
        return name if lark else None

    def choice(self, choice: str | dict[str, Any] | None) -> Any:
        """`tool_choice` in the format of a chat."""
        if not isinstance(choice, dict):
            if choice == "required" and not self.functions and self.warnings:
                self.warnings.append("tool_choice: required has no effect, because every tool was left out")
                return None
            return choice
        kind = choice.get("type")
        if kind in ("function", "custom"):
            return {"type": "function", "function": {"name": self._flat(choice)}}
        if kind == "allowed_tools":
            return self._allowed(choice)
        if kind in LEFT_OUT:
            self.warnings.append(f"tool_choice: {kind} has no effect, because this server has no such tool")
            return None
        return choice

    def _allowed(self, choice: dict[str, Any]) -> Any:
        tools = choice.get("tools")
        if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
            raise BadRequest(f"tool_choice.tools: {shown(tools)} is not allowed; a list of tools is needed")
        own = [{"name": self._flat(tool)} for tool in tools if tool.get("type", "function") not in LEFT_OUT]
        if not own:
            return "none"
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": own}}

    def _flat(self, named: dict[str, Any]) -> Any:
        name, namespace = named.get("name"), named.get("namespace")
        if isinstance(namespace, str) and isinstance(name, str):
            return flat_name(namespace, name)
        return name


def custom_input(arguments: str) -> str:
    """What a custom tool is given. Models may put it elsewhere than they were told to."""
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments
    if isinstance(value, dict):
        if isinstance(value.get("input"), str):
            return str(value["input"])
        if len(value) == 1 and isinstance(text := next(iter(value.values())), str):
            return text
    return arguments
