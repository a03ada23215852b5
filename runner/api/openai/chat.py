"""/v1/chat/completions: translates a request to the engine's, one for each choice."""

from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

from runner.api.openai.content import Part, content_of, text_of
from runner.api.openai.sampling import (
    STREAM_RULE,
    Length,
    Sampling,
    check_length,
    check_speculate,
    check_stream_options,
    options,
)
from runner.api.openai.structured import form_of
from runner.api.openai.tools import TOOL_RULE, Tool, read_tools, toolbox
from runner.api.tool_choice import CHOICE_RULE, Choice, ChoiceName, Toolbox
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.messages import check_content
from runner.protocol.text import Count, Message, TextRequest, encode, parse_body
from runner.protocol.validation import shown

ROLES = ("developer", "system", "user", "assistant", "tool")


CALL_RULE = rules.either(
    rules.function(arguments={"type": ["string", "null"]}),
    rules.has("type", {"const": "custom"}) | {"required": ["type", "custom"]},
)
Call = Annotated[dict[str, Any], Meta(extra_json_schema=CALL_RULE)]


class Turn(Struct, frozen=True):
    role: Annotated[str, Meta(extra_json_schema={"enum": ROLES})]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    audio: Any = None
    function_call: Any = None


class Prediction(Struct, frozen=True):
    """Text that the answer is likely to repeat."""

    type: Literal["content"]
    content: str | list[Part]


class Thinking(Struct, frozen=True):
    """Options for the chat template, as clients of other servers send them."""

    enable_thinking: bool | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


TURN_RULE = {
    "allOf": [
        rules.needs_content("tool_calls", "reasoning_content", "refusal"),
        {"properties": {key: {"type": "null"} for key in ("audio", "function_call")}},
    ]
}


class ChatOptions(Sampling, frozen=True, kw_only=True):
    """A request without its messages."""

    max_completion_tokens: Length | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Annotated[Tool, Meta(extra_json_schema=TOOL_RULE)]] | None = None
    tool_choice: ChoiceName | Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    think: bool | None = None
    thinking_budget: Count | None = None  # Qwen's name; thinking_token_budget is vLLM's
    thinking_token_budget: Count | None = None
    chat_template_kwargs: Thinking | None = None
    # vLLM's names. An assistant's message at the end is continued unless they say otherwise.
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    prediction: Prediction | None = None
    modalities: list[Annotated[str, Meta(extra_json_schema={"const": "text"})]] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None
    prompt_logprobs: Any = None


class ChatRequest(ChatOptions, frozen=True, kw_only=True):
    messages: Annotated[list[Annotated[Turn, Meta(extra_json_schema=TURN_RULE)]], Meta(min_length=1)]


# Fields that would change the answer, and why they are not supported.
UNSUPPORTED = {
    "audio": "audio is not supported; this server answers in text",
    "functions": "functions are not supported; use tools",
    "function_call": "function_call is not supported; use tool_choice",
    "prompt_logprobs": "log probabilities of a prompt are not supported in a chat; use /v1/completions",
    "web_search_options": "web search is not supported; this server fetches nothing",
}


RULES = (
    STREAM_RULE,
    CHOICE_RULE,
    rules.needs("top_logprobs", rules.has("logprobs", {"const": True})),
    *(
        rules.either(
            {"properties": {"continue_final_message": {"enum": [None, not one]}}},
            {"properties": {"add_generation_prompt": {"enum": [None, not one]}}},
        )
        for one in (True, False)
    ),
)


class Chat:
    """A validated request, and its messages in the engine's format."""

    def __init__(self, request: ChatOptions, messages: list[Message]) -> None:
        self.request = request
        self.messages = messages
        self._check()
        tools = read_tools(request.tools)
        self.custom_tools = frozenset(tools.custom)
        self.toolbox: Toolbox = toolbox(tools, request.tool_choice)
        self.form = {} if self.toolbox.must else form_of(request)

    @classmethod
    def read(cls, body: bytes) -> Self:
        request = parse_body(ChatRequest, body)
        turns = enumerate(request.messages)
        return cls(request, [engine_message(turn, f"messages[{index}]") for index, turn in turns])

    @property
    def one_call(self) -> bool:
        return self.request.parallel_tool_calls is False

    def engine_requests(self) -> list[TextRequest]:
        """One for each choice."""
        request = self.request
        length = (
            request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        )
        first = TextRequest(
            messages=self.messages,
            options=options(request, length, 0),
            split=True,
            call_deltas=True,
            continue_final_message=self._continues(),
            think=self._think(),
            thinking_budget=self._thinking_budget(),
            prediction=self._prediction(),
            logprobs=bool(request.logprobs),
            top_logprobs=request.top_logprobs or 0,
            **self.form,
            **self.toolbox.request_fields(),
        )
        others = [
            replace(first, options=options(request, length, index)) for index in range(1, request.n or 1)
        ]
        return [first, *others]

    def _continues(self) -> bool | None:
        """Whether the last message is continued; None: if it is an assistant's."""
        continues, new_turn = self.request.continue_final_message, self.request.add_generation_prompt
        if continues is not None and continues is new_turn:
            raise BadRequest(
                f"add_generation_prompt: {shown(new_turn)} is not allowed while continue_final_message is the same; "
                "an answer is either a new turn or continues the last message"
            )
        return continues if new_turn is None else not new_turn

    def _think(self) -> bool | None:
        """Whether to think first; None leaves it to the model. A grammar leaves no room for thoughts."""
        request = self.request
        if self.form or self.toolbox.must:
            return False
        if request.think is not None:
            return request.think
        if request.chat_template_kwargs and request.chat_template_kwargs.enable_thinking is not None:
            return request.chat_template_kwargs.enable_thinking
        return None if request.reasoning_effort is None else request.reasoning_effort != "none"

    def _thinking_budget(self) -> int | None:
        request = self.request
        budgets = (request.thinking_budget, request.thinking_token_budget)
        return next((budget for budget in budgets if budget is not None), None)

    def _prediction(self) -> str | None:
        prediction = self.request.prediction
        return text_of(prediction.content, "prediction") or None if prediction else None

    def _check(self) -> None:
        request = self.request
        check_stream_options(request)
        check_length(request.max_tokens, "max_tokens")
        check_length(request.max_completion_tokens, "max_completion_tokens")
        check_speculate(request)
        for name, why in UNSUPPORTED.items():
            if getattr(request, name) is not None:
                raise BadRequest(f"{name}: {why}")
        if any(modality != "text" for modality in request.modalities or []):
            raise BadRequest(
                f"modalities: {', '.join(request.modalities or [])[:64]} is not supported; only text is"
            )
        if request.top_logprobs and not request.logprobs:
            raise BadRequest("top_logprobs: it is only allowed if logprobs is true")


def engine_message(turn: Turn, place: str) -> Message:
    """A turn as the message that chat templates expect."""
    if turn.role not in ROLES:
        raise BadRequest(
            f"{place}.role: {turn.role[:64]!r} is not supported; supported are {', '.join(ROLES)}"
        )
    if turn.audio is not None or turn.function_call is not None:
        raise BadRequest(f"{place}: audio and function_call are not supported; use text and tool_calls")
    check_content(turn, place)
    content, images = content_of(turn.content, place)
    return Message(
        role="system" if turn.role == "developer" else turn.role,
        content=content or turn.refusal or "",
        images=images or None,
        name=turn.name or None,
        tool_call_id=turn.tool_call_id or None,
        reasoning_content=turn.reasoning_content or None,
        tool_calls=[engine_call(call, place) for call in turn.tool_calls or []] or None,
    )


def engine_call(call: dict[str, Any], place: str) -> dict[str, Any]:
    kind = call.get("type") or "function"
    called = call.get(kind)
    if kind not in ("function", "custom") or not isinstance(called, dict):
        raise BadRequest(f"{place}.tool_calls: only calls of type function and custom are supported")
    if not isinstance(called.get("name"), str):
        raise BadRequest(f"{place}.tool_calls: {kind}.name is missing; a string is needed")
    arguments = called.get("arguments") or "{}"
    if kind == "custom":
        arguments = encode({"input": called.get("input") or ""}).decode()
    fields = {"name": called["name"], "arguments": arguments}
    return {"id": str(call.get("id") or ""), "type": "function", "function": fields}
