"""The responses of Anthropic's API as types. Content blocks grow while they are streamed."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str = ""
    citations: None = None


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    thinking: str = ""
    signature: str = ""


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock


class CacheCreation(Struct, frozen=True):
    """Nothing is billed for it, so nothing is counted: what was reused is in `cache_read_input_tokens`."""

    ephemeral_1h_input_tokens: int = 0
    ephemeral_5m_input_tokens: int = 0


class OutputDetails(Struct, frozen=True):
    thinking_tokens: int = 0


class DeltaUsage(Struct, frozen=True, kw_only=True):
    """The tokens of a prompt are the sum of the three numbers of input."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    server_tool_use: None = None


class Usage(DeltaUsage, frozen=True, kw_only=True):
    cache_creation: CacheCreation = CacheCreation()
    service_tier: Literal["standard"] = "standard"
    inference_geo: None = None
    speed: None = None


class AppliedEdit(Struct, frozen=True):
    """An edit of the context that has left something out."""

    type: Literal["clear_thinking_20251015"]
    cleared_thinking_turns: int
    cleared_input_tokens: int


class AppliedEdits(Struct, frozen=True):
    applied_edits: list[AppliedEdit]


class Message(Struct, frozen=True, kw_only=True):
    """`warnings` (Diptych's own): what in the request was left out or ignored, and why."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block] = field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None
    diagnostics: None = None
    usage: Usage = Usage()
    context_management: AppliedEdits | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


# -- events of a stream


class MessageStart(Struct, frozen=True, tag_field="type", tag="message_start"):
    message: Message


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """Keeps a connection open."""


class ContentBlockStart(Struct, frozen=True, tag_field="type", tag="content_block_start"):
    index: int
    content_block: Block


class TextDelta(Struct, frozen=True, tag_field="type", tag="text_delta"):
    text: str


class InputJsonDelta(Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class ThinkingDelta(Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, frozen=True, tag_field="type", tag="signature_delta"):
    signature: str


class ContentBlockDelta(Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | InputJsonDelta | ThinkingDelta | SignatureDelta


class ContentBlockStop(Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    index: int


class Stop(Struct, frozen=True):
    stop_reason: StopReason
    stop_sequence: str | None
    stop_details: None = None
    container: None = None


class MessageDelta(Struct, frozen=True, tag_field="type", tag="message_delta"):
    delta: Stop
    usage: DeltaUsage
    context_management: AppliedEdits | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class MessageStop(Struct, frozen=True, tag_field="type", tag="message_stop"):
    pass


StreamEvent = (
    MessageStart
    | Ping
    | ContentBlockStart
    | ContentBlockDelta
    | ContentBlockStop
    | MessageDelta
    | MessageStop
)


# -- other responses


class TokenCount(Struct, frozen=True):
    input_tokens: int
    warnings: list[str] | UnsetType = UNSET


class Error(Struct, frozen=True):
    type: str
    message: str


class Failure(Struct, frozen=True):
    """An error, also as the last event of a stream."""

    error: Error
    request_id: str | None = None
    type: Literal["error"] = "error"


class Support(Struct, frozen=True):
    supported: bool


NO = Support(False)


class ContextManagement(Struct, frozen=True):
    supported: bool = True
    clear_thinking_20251015: Support = Support(True)
    clear_tool_uses_20250919: Support = NO
    compact_20260112: Support = NO


class Efforts(Struct, frozen=True):
    """Every effort is accepted and none has an effect."""

    supported: bool = False
    low: Support = NO
    medium: Support = NO
    high: Support = NO
    xhigh: Support = NO
    max: Support = NO


class ServerTools(Struct, frozen=True):
    supported: bool = False
    code_execution: Support = NO
    web_search: Support = NO


class ThinkingTypes(Struct, frozen=True):
    enabled: Support
    adaptive: Support
    between_tools: Support = NO
    disabled: Support = Support(True)


class ThinkingSupport(Struct, frozen=True):
    supported: bool
    types: ThinkingTypes


class Capabilities(Struct, frozen=True, kw_only=True):
    batch: Support = NO
    citations: Support = NO
    code_execution: Support = NO
    context_management: ContextManagement = ContextManagement()
    effort: Efforts = Efforts()
    image_input: Support
    pdf_input: Support = NO
    server_tools: ServerTools = ServerTools()
    structured_outputs: Support = Support(True)
    thinking: ThinkingSupport


class Model(Struct, frozen=True, kw_only=True):
    id: str
    type: Literal["model"] = "model"
    display_name: str
    created_at: str
    lifecycle: Literal["active"] = "active"
    capabilities: Capabilities
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class Models(Struct, frozen=True):
    data: list[Model]
    has_more: bool
    first_id: str | None
    last_id: str | None
