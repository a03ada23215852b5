"""What the Responses API answers, as types. Items grow while they are streamed."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from runner.api.logprobs import TokenLogprob

Progress = Literal["in_progress", "completed", "incomplete"]
Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str = ""
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    text: str = ""


class MessageItem(Struct, tag_field="type", tag="message"):
    id: str
    content: list[OutputText]
    status: Progress = "in_progress"
    role: Literal["assistant"] = "assistant"


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    id: str
    content: list[ReasoningText]
    status: Progress = "in_progress"
    summary: list[Any] = field(default_factory=list)
    encrypted_content: str | UnsetType = UNSET


class CallItem(Struct, tag_field="type", tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Progress = "in_progress"
    namespace: str | UnsetType = UNSET


class CustomCallItem(Struct, tag_field="type", tag="custom_tool_call"):
    id: str
    call_id: str
    name: str
    input: str
    status: Progress = "in_progress"
    namespace: str | UnsetType = UNSET


class CompactionItem(Struct, tag_field="type", tag="compaction"):
    id: str
    encrypted_content: str


Item = MessageItem | ReasoningItem | CallItem | CustomCallItem


class Incomplete(Struct, frozen=True):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Fault(Struct, frozen=True):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class Effort(Struct, frozen=True):
    effort: str | None
    summary: None = None


class Verbosity(Struct, frozen=True):
    format: dict[str, Any]
    verbosity: Literal["low", "medium", "high"] = "medium"


class ConversationId(Struct, frozen=True):
    id: str


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
    completed_at: int | None
    status: Status
    error: Fault | None
    incomplete_details: Incomplete | None
    instructions: str | None
    previous_response_id: str | None
    conversation: ConversationId | None
    background: bool
    store: bool
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[Item]
    parallel_tool_calls: bool
    reasoning: Effort
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    text: Verbosity
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: Literal["in_memory", "24h"] | None
    warnings: list[str]
    prompt: None = None
    service_tier: Literal["default"] = "default"
    object: Literal["response"] = "response"


class ResponseEvent(Struct, frozen=True):
    """An event of a stream. Its other fields depend on its type."""

    type: str
    sequence_number: Annotated[int, Meta(ge=0)]


class Deleted(Struct, frozen=True):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ItemList(Struct, frozen=True):
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


class InputTokens(Struct, frozen=True):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class Compacted(Struct, frozen=True):
    """A conversation made shorter: its messages, and a summary that the model reads in place of the rest."""

    id: str
    created_at: int
    output: list[dict[str, Any]]
    usage: ResponseUsage
    warnings: list[str]
    object: Literal["response.compaction"] = "response.compaction"
