"""Requests of Anthropic's API as types, and what they become: a request of the engine, and warnings about the rest."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from runner.api.anthropic.content import Content, Turn, engine_messages
from runner.api.anthropic.tools import Tool, ToolChoice, read_tools
from runner.api.tool_choice import Toolbox
from runner.errors import BadRequest
from runner.gateway.proxy import keep_alive_seconds
from runner.protocol.duration import Duration
from runner.protocol.speculate import Speculate, read_speculate
from runner.protocol.text import Options, Priority, TextRequest, parse_body

SMALLEST_BUDGET = 1024
CLEAR_THINKING: Literal["clear_thinking_20251015"] = "clear_thinking_20251015"
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Thinking(Struct, frozen=True):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class Format(Struct, frozen=True, rename={"definition": "schema"}):
    type: Literal["json_schema"]
    definition: dict[str, Any] | bool


class OutputConfig(Struct, frozen=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None
    task_budget: Any = None


class Turns(Struct, frozen=True):
    type: Literal["thinking_turns", "all"]
    value: Annotated[int, Meta(ge=1)] | None = None


class Edit(Struct, frozen=True):
    type: str
    keep: Any = None


class ContextManagement(Struct, frozen=True):
    edits: list[Edit] | None = None


class CountRequest(Struct, frozen=True, kw_only=True):
    """What a prompt is made of. keep_alive is Diptych's own."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Turn], Meta(min_length=1)]
    system: Content | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None  # its former name
    context_management: ContextManagement | None = None
    mcp_servers: list[dict[str, Any]] | None = None
    container: Any = None
    compaction: Any = None
    fallbacks: Any = None
    thread: Any = None
    keep_alive: Duration | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """seed, min_p, repeat_penalty and speculate are Diptych's own; priority is vLLM's."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: int | None = None
    seed: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    speculate: Speculate = None
    priority: Priority | None = None


# By the same name on both sides.
SAME = ("top_p", "top_k", "seed", "min_p", "repeat_penalty", "speculate", "priority")
# Fields that have no effect here, and what is missing.
WITHOUT_EFFECT = {
    "mcp_servers": "this server connects to no others",
    "container": "this server runs no code",
    "compaction": "conversations are not summarized",
    "fallbacks": "there is only the model that was named",
    "thread": "nothing is stored; every request has the whole conversation",
}


class Prompt:
    """A validated request without its options."""

    def __init__(self, request: CountRequest) -> None:
        self.request = request
        self.keep_alive = keep_alive_seconds(request.keep_alive)
        self.warnings: list[str] = []
        self.cleared_thoughts: list[str] = []  # of turns that lose them
        self.toolbox: Toolbox = read_tools(request.tools or [], request.tool_choice, self.warnings)
        self._format = self._read_format()
        self._warn()

    @property
    def one_call(self) -> bool:
        choice = self.request.tool_choice
        return choice is not None and choice.disable_parallel_tool_use is True

    @property
    def hides_thoughts(self) -> bool:
        thinking = self.request.thinking
        return thinking is not None and thinking.display == "omitted"

    def engine_request(self, options: Options | None = None) -> TextRequest:
        request = self.request
        messages, self.cleared_thoughts = engine_messages(
            request.system, request.messages, self._kept_thoughts(), self.warnings
        )
        return TextRequest(
            messages=messages,
            options=options or Options(),
            split=True,
            call_deltas=True,
            format=self._format,
            think=self._think(),
            thinking_budget=self._thinking_budget(),
            **self.toolbox.request_fields(),
        )

    def _think(self) -> bool | None:
        """Whether to think first; None leaves it to the model. A grammar leaves no room for thoughts."""
        thinking = self.request.thinking
        if self._format is not None or self.toolbox.must or thinking is None or thinking.type == "disabled":
            return False
        return True if thinking.type == "enabled" else None

    def _thinking_budget(self) -> int | None:
        thinking = self.request.thinking
        return thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else None

    def _read_format(self) -> dict[str, Any] | bool | None:
        config = self.request.output_config
        format = (
            config.format if config is not None and config.format is not None else self.request.output_format
        )
        return None if format is None or self.toolbox.must else format.definition

    def _kept_thoughts(self) -> int | None:
        """How many of the assistant's last turns keep their thoughts; None: all."""
        management = self.request.context_management
        for edit in (management.edits if management else None) or []:
            if edit.type == CLEAR_THINKING:
                return _kept_turns(edit.keep)
        return None

    def _warn(self) -> None:
        request = self.request
        for name, why in WITHOUT_EFFECT.items():
            if getattr(request, name):
                self.warnings.append(f"{name} was ignored: {why}")
        if request.output_config is not None and request.output_config.task_budget is not None:
            self.warnings.append("output_config.task_budget was ignored: only max_tokens limits an answer")
        if request.thinking is not None and request.thinking.type == "between_tools":
            self.warnings.append("thinking: between_tools is treated as adaptive")
        management = request.context_management
        for edit in (management.edits if management else None) or []:
            if edit.type != CLEAR_THINKING:
                self.warnings.append(
                    f"context_management: the edit {edit.type[:64]!r} was ignored; {CLEAR_THINKING} is applied"
                )


class Messages(Prompt):
    """A validated request for a message."""

    request: MessagesRequest

    def __init__(self, body: bytes) -> None:
        request = parse_body(MessagesRequest, body)
        super().__init__(request)
        self.request = request
        read_speculate(request.speculate, "speculate")
        self._check_budget()

    def text(self) -> TextRequest:
        request = self.request
        fields = {name: value for name in SAME if (value := getattr(request, name)) is not None}
        # Of no tokens, the prompt is read all the same, so that it is in the cache; the engine writes at least one.
        length = max(request.max_tokens, 1)
        temperature = 1.0 if request.temperature is None else request.temperature
        stops = request.stop_sequences or []
        return self.engine_request(Options(num_predict=length, temperature=temperature, stop=stops, **fields))

    def _check_budget(self) -> None:
        thinking = self.request.thinking
        if thinking is None or thinking.type != "enabled":
            return
        budget, most = thinking.budget_tokens, self.request.max_tokens
        if budget is None:
            raise BadRequest("thinking.budget_tokens is missing; an integer is needed if thinking is enabled")
        if not SMALLEST_BUDGET <= budget < max(most, SMALLEST_BUDGET + 1):
            raise BadRequest(
                f"thinking.budget_tokens: {budget} is not allowed; it must be at least {SMALLEST_BUDGET} "
                f"and less than max_tokens, which is {most}"
            )


def _kept_turns(keep: Any) -> int | None:
    """The `keep` of an edit that clears thoughts; the last turn's alone by default."""
    if keep is None:
        return 1
    if keep == "all" or (isinstance(keep, dict) and keep.get("type") == "all"):
        return None
    value = keep.get("value") if isinstance(keep, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadRequest(
            'context_management.edits.keep: it must be "all" or {"type": "thinking_turns", "value": 1 or more}'
        )
    return value
