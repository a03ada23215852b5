"""/v1/responses: the request as a chat. Nothing is stored: clients send the whole conversation each time."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from runner.api.openai.chat import Chat, ChatOptions, Effort, Turn, engine_call, engine_message
from runner.api.tool_choice import CHOICE_RULE, ChoiceName
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.text import Message, parse


class Reasoning(Struct, frozen=True):
    effort: Effort | None = None
    summary: str | None = None


class Format(Struct, frozen=True, rename={"definition": "schema"}):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    definition: dict[str, Any] | bool | None = None
    strict: bool | None = None


FORMAT_RULE = rules.either(
    {"type": "null"},
    {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}},
    {"type": "object"} | rules.has("schema", {"type": ["object", "boolean"]}),
)
TOOL_RULE = {
    "required": ["type", "name"],
    "properties": {
        "type": {"const": "function"},
        "name": {"type": "string", "minLength": 1, "maxLength": 256},
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]},
    },
}


CHOICE_TYPE = {"enum": ["function", "allowed_tools"]}


class Text(Struct, frozen=True):
    format: Annotated[Format | None, Meta(extra_json_schema={"allOf": [FORMAT_RULE]})] = None
    verbosity: str | None = None


class ResponsesRequest(Struct, frozen=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Annotated[dict[str, Any], Meta(extra_json_schema=TOOL_RULE)]] | None = None
    tool_choice: (
        ChoiceName
        | Annotated[
            dict[str, Any],
            Meta(extra_json_schema={"properties": {"type": CHOICE_TYPE}, "required": ["type"]}),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    text: Text = field(default_factory=Text)
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None


# Fields that would change the answer, and why they are not supported.
UNSUPPORTED = {
    "previous_response_id": "responses are not stored; send the earlier messages as input",
    "conversation": "conversations are not stored; send the earlier messages as input",
    "prompt": "prompts are not stored; send instructions and input",
    "background": "background responses are not supported; use stream",
}
# Fields of a chat that mean the same here.
SAME = (
    "seed",
    "think",
    "chat_template_kwargs",
    "continue_final_message",
    "add_generation_prompt",
    "top_k",
    "min_p",
    "repeat_penalty",
    "speculate",
    "keep_alive",
    "priority",
)
LOGPROBS = "message.output_text.logprobs"


RULES = (CHOICE_RULE,)


class Responses:
    """A validated request, and the equivalent chat."""

    def __init__(self, body: dict[str, Any]) -> None:
        for name, why in UNSUPPORTED.items():
            if body.get(name):
                raise BadRequest(f"{name}: {why}")
        self.request = request = parse(ResponsesRequest, body)
        fields: dict[str, Any] = {name: body[name] for name in SAME if body.get(name) is not None}
        fields |= {
            "model": request.model,
            "max_completion_tokens": request.max_output_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "tools": [_tool(tool) for tool in request.tools or []],
            "tool_choice": _choice(request.tool_choice),
            "parallel_tool_calls": request.parallel_tool_calls,
            "response_format": _format(request.text.format),
            "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        }
        if request.top_logprobs or LOGPROBS in (request.include or []):
            fields |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
        self.chat = Chat(parse(ChatOptions, fields), messages(request.input, request.instructions))


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise BadRequest(f"tools: type {str(tool.get('type'))[:64]!r} is not supported; only function is")
    return {"type": "function", "function": {key: tool[key] for key in tool.keys() - {"type"}}}


def _choice(choice: str | dict[str, Any] | None) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools":
        return {"type": "allowed_tools", "allowed_tools": choice}
    return choice


def _format(format: Format | None) -> dict[str, Any] | None:
    if format is None:
        return None
    if format.type != "json_schema":
        return {"type": format.type}
    return {"type": "json_schema", "json_schema": {"name": format.name, "schema": format.definition}}


def messages(input: str | list[dict[str, Any]], instructions: str | None) -> list[Message]:
    """The input items as messages. Reasoning and calls become part of the assistant's message that follows from them."""
    items = [{"role": "user", "content": input}] if isinstance(input, str) else input
    if not items:
        raise BadRequest("input is empty; some text is needed")
    conversation = [Message("system", instructions)] if instructions else []
    for index, item in enumerate(items):
        kind, place = item.get("type", "message"), f"input[{index}]"
        if kind == "message":
            _add_message(conversation, _message(place, role=item.get("role"), content=item.get("content")))
        elif kind == "function_call":
            _add_call(conversation, item, place)
        elif kind == "function_call_output":
            result = {"tool_call_id": item.get("call_id"), "content": item.get("output")}
            conversation.append(_message(place, role="tool", **result))
        elif kind == "reasoning":
            conversation.append(Message("assistant", "", reasoning_content=_thoughts(item, place)))
        else:
            raise BadRequest(f"{place}: type {str(kind)[:64]!r} is not supported")
    return conversation


def _message(place: str, **turn: Any) -> Message:
    return engine_message(parse(Turn, turn), place)


def _thoughts(item: dict[str, Any], place: str) -> str:
    content = item.get("content") or item.get("summary") or []
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest(f"{place}.content: a list of parts with text is needed")
    return "".join(map(str, texts))


def _add_message(conversation: list[Message], message: Message) -> None:
    last = conversation[-1] if conversation else None
    if message.role == "assistant" and last is not None and last.reasoning_content and not last.content:
        conversation[-1] = replace(last, content=message.content)
    else:
        conversation.append(message)


def _add_call(conversation: list[Message], item: dict[str, Any], place: str) -> None:
    """Add to the assistant's message at the end, or begin one."""
    if not conversation or conversation[-1].role != "assistant":
        conversation.append(Message("assistant", ""))
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    call = engine_call({"id": item.get("call_id"), "function": function}, place)
    last = conversation[-1]
    conversation[-1] = replace(last, tool_calls=[*(last.tool_calls or []), call])
