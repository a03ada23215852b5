"""A request for a response as the equivalent chat."""

from typing import Any

from msgspec.structs import replace

from runner.api.openai.chat import Chat, ChatOptions
from runner.api.openai.tool_types import CustomTool, Tools
from runner.api.responses.history import History
from runner.api.responses.items import Conversation, placed
from runner.api.responses.names import own_names
from runner.api.responses.request import Format, Prompted, ResponsesRequest, read_request
from runner.protocol.text import Grammar, Message, TextRequest, parse

# Fields of a chat that mean the same here.
SAME = (
    "seed",
    "think",
    "thinking_budget",
    "thinking_token_budget",
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
HELD = "Write the input of the tool {name}, and nothing else. {description}"
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"


class Responses:
    """A validated request, and the equivalent chat."""

    def __init__(
        self, body: dict[str, Any], request: Prompted | None = None, history: History | None = None
    ) -> None:
        request = request or read_request(body)
        conversation = Conversation(request.instructions)
        conversation.add(placed(request.input) if history is None else history.all)
        self.tools = Tools.read(request.tools)
        choice = self.tools.choice(request.tool_choice)
        with own_names():
            options = parse(ChatOptions, _chat_fields(request, body, self.tools, choice))
            self.chat = ResponsesChat(options, conversation.messages, request.truncation == "auto")
        self.held = self.tools.held(request.tool_choice)
        if self.held is not None:
            self.chat.hold(self.tools.functions[self.held]["function"], self.tools.custom[self.held])
        self.warnings = [*conversation.warnings, *self.tools.warnings]
        if isinstance(request, ResponsesRequest) and request.context_management:
            self.warnings.append(
                "context_management was ignored; /v1/responses/compact compacts a conversation"
            )


class ResponsesChat(Chat):
    def __init__(self, request: ChatOptions, messages: list[Message], truncate: bool) -> None:
        super().__init__(request, messages)
        self._truncate = truncate
        self._grammar: Grammar | None = None

    def hold(self, function: dict[str, Any], tool: CustomTool) -> None:
        """Hold the answer to the input of this tool."""
        assert tool.format is not None
        self._grammar = parse(Grammar, {"syntax": tool.format.syntax, "definition": tool.format.definition})
        self.messages = _with_note(self.messages, HELD.format(**function))

    def engine_requests(self) -> list[TextRequest]:
        requests = [replace(one, truncate=self._truncate) for one in super().engine_requests()]
        if self._grammar is None:
            return requests
        return [replace(one, tools=None, tool_choice=None, grammar=self._grammar) for one in requests]


def _with_note(messages: list[Message], note: str) -> list[Message]:
    """In the user's last message: templates differ in where they allow others."""
    last = messages[-1] if messages else None
    if last is None or last.role != "user" or not isinstance(last.content, str):
        return [*messages, Message("user", note)]
    return [*messages[:-1], replace(last, content=f"{last.content}\n\n{note}")]


def _chat_fields(request: Prompted, body: dict[str, Any], tools: Tools, choice: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {name: body[name] for name in SAME if body.get(name) is not None}
    fields |= {
        "model": request.model,
        "tools": list(tools.functions.values()),
        "tool_choice": choice,
        "parallel_tool_calls": request.parallel_tool_calls,
        "response_format": _format(request.text.format),
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
    }
    if isinstance(request, ResponsesRequest):
        fields |= {
            "max_completion_tokens": request.max_output_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "presence_penalty": request.presence_penalty,
            "frequency_penalty": request.frequency_penalty,
        }
        if request.top_logprobs or LOGPROBS in (request.include or []):
            fields |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return fields


def _format(format: Format | None) -> dict[str, Any] | None:
    if format is None:
        return None
    if format.type != "json_schema":
        return {"type": format.type}
    return {"type": "json_schema", "json_schema": {"name": format.name, "schema": format.definition}}
