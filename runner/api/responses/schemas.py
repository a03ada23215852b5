"""The responses of /v1/responses as types. Items grow while they are streamed."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from runner.api.logprobs import TokenLogprob

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str = ""
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    text: str = ""


class MessageItem(Struct, tag_field="type", tag="message"):
    id: str
    content: list[OutputText]
    status: Status = "in_progress"
    role: Literal["assistant"] = "assistant"


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    id: str
    content: list[ReasoningText]
    status: Status = "in_progress"
    summary: list[Any] = field(default_factory=list)


class CallItem(Struct, tag_field="type", tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "in_progress"


Item = MessageItem | ReasoningItem | CallItem


class Incomplete(Struct, frozen=True):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Effort(Struct, frozen=True):
    effort: str | None
    summary: None = None


class InputDetails(Struct, frozen=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(Struct, frozen=True):
    id: str
    created_at: int
    status: Status
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[Item]
    parallel_tool_calls: bool
    reasoning: Effort
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float
    usage: ResponseUsage | None
    object: Literal["response"] = "response"
    error: None = None
    previous_response_id: None = None
    store: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"


class ResponseEvent(Struct, frozen=True):
    """An event of a stream. Its other fields depend on its type."""

    type: str
    sequence_number: Annotated[int, Meta(ge=0)]
