"""/v1/responses: the request as one of chat. Nothing is stored, so that what came before is sent again each time."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from runner.api.openai.chat import Chat, Effort, Turn, message
from runner.api.openai.tools import TEXT_RULE
from runner.api.tool_choice import CHOICE_RULE, ChoiceName
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.text import parse


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


# What would change the answer and is not to be had.
NOT_HERE = {
    "previous_response_id": "responses are not stored; send what came before as input",
    "conversation": "conversations are not stored; send what came before as input",
    "prompt": "prompts are not stored; send instructions and input",
    "background": "an answer is made while its client waits",
}
# Chat's own, that mean the same here.
SAME = (
    "seed",
    "think",
    "chat_template_kwargs",
    "continue_final_message",
    "add_generation_prompt",
    "top_k",
    "min_p",
    "repeat_penalty",
    "keep_alive",
)
LOGPROBS = "message.output_text.logprobs"


RULES = (
    CHOICE_RULE,
    rules.needs("tools", {"properties": {"text": {"properties": {"format": TEXT_RULE}}}}),
)


class Responses:
    """A request that was read, and the chat that it comes to."""

    def __init__(self, body: dict[str, Any]) -> None:
        for name, why in NOT_HERE.items():
            if body.get(name):
                raise BadRequest(f"{name}: {why}")
        self.asked = parse(ResponsesRequest, body)
        asked = self.asked
        chat: dict[str, Any] = {name: body[name] for name in SAME if body.get(name) is not None}
        chat |= {
            "model": asked.model,
            "messages": turns(asked.input, asked.instructions),
            "max_completion_tokens": asked.max_output_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "tools": [_tool(tool) for tool in asked.tools or []],
            "tool_choice": _choice(asked.tool_choice),
            "parallel_tool_calls": asked.parallel_tool_calls,
            "response_format": _format(asked.text.format),
            "reasoning_effort": asked.reasoning.effort if asked.reasoning else None,
        }
        if asked.top_logprobs or LOGPROBS in (asked.include or []):
            chat |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
        self.chat = Chat(chat)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise BadRequest(f"tools: type {str(tool.get('type'))[:64]!r} is not supported; function is")
    return {"type": "function", "function": {key: tool[key] for key in tool.keys() - {"type"}}}


def _choice(choice: str | dict[str, Any] | None) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools":
        return {"type": "allowed_tools", "allowed_tools": choice}
    return choice


def _format(wanted: Format | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    return {"type": "json_schema", "json_schema": {"name": wanted.name, "schema": wanted.definition}}


def turns(given: str | list[dict[str, Any]], instructions: str | None) -> list[dict[str, Any]]:
    """The items of the input as turns of a chat. Thoughts and calls belong to the assistant's turn that they led to."""
    found: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not items:
        raise BadRequest("input is empty; some text is needed")
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "message":
            _say(found, item, f"input[{index}]")
        elif kind == "function_call":
            call = {"name": item.get("name"), "arguments": item.get("arguments")}
            called = {"id": item.get("call_id"), "type": "function", "function": call}
            _assistant(found).setdefault("tool_calls", []).append(called)
        elif kind == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
        elif kind == "reasoning":
            found.append({"role": "assistant", "content": "", "reasoning_content": _thoughts(item, index)})
        else:
            raise BadRequest(f"input[{index}]: type {str(kind)[:64]!r} is not supported")
    return found


def _thoughts(item: dict[str, Any], index: int) -> str:
    given = item.get("content") or item.get("summary") or []
    parts = given if isinstance(given, list) else [given]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    said = [text for text in texts if isinstance(text, str)]
    if len(said) < len(texts):
        raise BadRequest(f"input[{index}].content: a list of parts with text is needed")
    return "".join(said)


def _say(found: list[dict[str, Any]], item: dict[str, Any], place: str) -> None:
    turn = {"role": item.get("role"), "content": item.get("content")}
    message(parse(Turn, turn), place)  # what is wrong with it is said of its place in the input
    after_thought = bool(found) and found[-1].get("reasoning_content") and not found[-1].get("content")
    if turn["role"] == "assistant" and after_thought:
        found[-1]["content"] = turn["content"]
    else:
        found.append(turn)


def _assistant(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's turn that is being said."""
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": ""})
    return found[-1]
