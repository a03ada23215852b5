"""Requests for responses as types."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from runner.api.openai.chat import Effort
from runner.api.openai.tool_types import LEFT_OUT, RUN
from runner.api.tool_choice import CHOICE_RULE, ChoiceName
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.text import parse


class Reasoning(Struct, frozen=True):
    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class Format(Struct, frozen=True, rename={"definition": "schema"}):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    definition: dict[str, Any] | bool | None = None
    strict: bool | None = None


FORMAT_RULE = rules.either(
    {"type": "null"},
    {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}},
    {"type": "object"} | rules.has("schema", {"type": ["object", "boolean"]}),
)
TOOL_RULE = {
    "required": ["type"],
    "properties": {"type": {"enum": [*RUN, *sorted(LEFT_OUT)]}},
    "anyOf": [
        {"properties": {"type": {"enum": sorted(LEFT_OUT)}}},
        {
            "required": ["name"],
            "properties": {
                "type": {"const": "function"},
                "name": {"type": "string", "minLength": 1, "maxLength": 256},
                "description": {"type": ["string", "null"]},
                "parameters": {"type": ["object", "null"]},
                "strict": {"type": ["boolean", "null"]},
            },
        },
        {
            "required": ["name"],
            "properties": {
                "type": {"const": "custom"},
                "name": {"type": "string", "minLength": 1, "maxLength": 256},
                "description": {"type": ["string", "null"]},
                "format": {"type": "null"},
            },
        },
        {
            "required": ["name", "tools"],
            "properties": {
                "type": {"const": "namespace"},
                "name": {"type": "string", "minLength": 1, "maxLength": 256},
                "tools": {"type": "array", "maxItems": 0},
            },
        },
    ],
}


CHOICE_TYPE = {"enum": ["function", "custom", "allowed_tools", *sorted(LEFT_OUT)]}
Key = Annotated[str, Meta(max_length=64)]
Metadata = Annotated[dict[Key, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tool = Annotated[dict[str, Any], Meta(extra_json_schema=TOOL_RULE)]
ToolChoice = (
    ChoiceName
    | Annotated[
        dict[str, Any],
        Meta(extra_json_schema={"properties": {"type": CHOICE_TYPE}, "required": ["type"]}),
    ]
)


class Text(Struct, frozen=True):
    format: Annotated[Format | None, Meta(extra_json_schema={"allOf": [FORMAT_RULE]})] = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ConversationRef(Struct, frozen=True):
    id: str


class StreamOptions(Struct, frozen=True):
    include_obfuscation: bool | None = None


class Prompted(Struct, frozen=True, kw_only=True):
    """What the model reads: fields that counting tokens shares with creating responses."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: Text = field(default_factory=Text)
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None


class ResponsesRequest(Prompted, frozen=True, kw_only=True):
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    context_management: list[dict[str, Any]] | None = None


# Fields that would change the answer, and why they are not supported.
UNSUPPORTED = {
    "prompt": "prompts are not stored; send instructions and input",
    "moderation": "this server does not moderate; leave it out",
}
INPUT_RULE = rules.either(
    rules.has("input", {"type": "string"}),
    rules.has("input", {"type": "array", "minItems": 1}),
    rules.has("previous_response_id", {"type": "string"}),
    rules.has("conversation", {"type": ["string", "object"]}),
)
RULES = (
    INPUT_RULE,
    CHOICE_RULE,
    rules.excludes("previous_response_id", "conversation"),
    rules.needs("background", {"properties": {"store": {"enum": [None, True]}}}),
)


def read_request(body: dict[str, Any]) -> ResponsesRequest:
    for name, why in UNSUPPORTED.items():
        if body.get(name):
            raise BadRequest(f"{name}: {why}")
    request = parse(ResponsesRequest, body)
    check_input(request)
    if request.background and request.store is False:
        raise BadRequest(
            "store: false is not allowed while background is true; the answer is read from the store"
        )
    return request


def check_input(request: Prompted) -> None:
    if request.previous_response_id and request.conversation:
        raise BadRequest("previous_response_id: it cannot be combined with conversation; send one of them")
    if not request.input and not request.previous_response_id and not request.conversation:
        state = "is missing" if request.input is None else "is empty"
        raise BadRequest(f"input {state}; some text is needed")
