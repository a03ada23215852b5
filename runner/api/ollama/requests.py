"""Ollama's /api/generate and /api/chat: translates requests to the engine's."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from models.tokenizers.go_template import GoTemplateError, Limits, OllamaTemplate
from pipelines.parameters import ImageParameters, Loras, Side, Steps, values
from runner.api.ollama.models import ModelfileDefaults
from runner.api.ollama.options import MOST_WARNINGS, OllamaOptions, ResolvedOptions
from runner.api.tool_choice import CHOICE_RULE, Choice, ChoiceName, Toolbox, select_tools
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.duration import Duration
from runner.protocol.image import ImageCompletionRequest
from runner.protocol.messages import check_content
from runner.protocol.text import Infill, Message, TextRequest, TokenId, parse, parse_body

NO_TOOLS = Toolbox()
TEMPLATE_LIMITS = Limits(steps=100_000)  # the event loop waits meanwhile
ROLES = ("system", "user", "assistant", "tool")
Model = Annotated[str, Meta(min_length=1)]
Format = Annotated[str, Meta(extra_json_schema={"enum": ["", "json"]})] | dict[str, Any] | None


class CommonFields(Struct, frozen=True, kw_only=True):
    """The fields that both requests have."""

    model: Model
    stream: bool | None = None
    format: Format = None
    options: OllamaOptions | None = None
    keep_alive: Duration | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncate: bool | None = None
    shift: bool | None = None


class GenerateRequest(CommonFields, frozen=True, kw_only=True):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[TokenId] | None = None
    raw: bool | None = None
    images: list[str] | None = None
    mask: str | None = None  # ours
    width: Side | None = None
    height: Side | None = None
    steps: Steps | None = None
    loras: Loras | None = None  # ours


Call = Annotated[
    dict[str, Any], Meta(extra_json_schema=rules.function(arguments={"type": ["object", "null"]}))
]
Tool = Annotated[
    dict[str, Any], Meta(extra_json_schema=rules.function(parameters={"type": ["object", "null"]}))
]


# The other parameters of a picture, all of our own. An answer holds one picture, so there is one seed: that of the options.
SEVERAL = ("n", "seeds")
PICTURE_FIELDS = (
    set(ImageParameters.__struct_fields__) - set(GenerateRequest.__struct_fields__) - {"seed", *SEVERAL}
)


class Turn(Struct, frozen=True):
    role: Annotated[str, Meta(extra_json_schema={"enum": ROLES})]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


TURN_RULE = {"allOf": [rules.needs_content("tool_calls", "thinking", "images")]}


class ChatRequest(CommonFields, frozen=True, kw_only=True):
    messages: list[Annotated[Turn, Meta(extra_json_schema=TURN_RULE)]] | None = None
    tools: list[Tool] | None = None
    tool_choice: ChoiceName | Choice | None = None  # OpenAI's; Ollama has none


CHAT_RULES = (CHOICE_RULE,)
GENERATE_RULES = (
    rules.excludes("raw", "system", "think", "context", "template"),
    rules.excludes("suffix", "raw", "context", "images"),
)


class Request:
    """A parsed request. `empty`: it only loads or unloads its model."""

    fields: CommonFields
    kind: Literal["generate", "chat"]
    empty: bool
    system = ""
    template = ""  # of the model in the Ollama store
    earlier: Sequence[Message] = ()  # with which every conversation begins

    def _read(self, fields: CommonFields, body: bytes) -> None:
        self.fields = fields
        self.options = ResolvedOptions(fields.options)
        self._raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        known = {*fields.__struct_fields__, *(PICTURE_FIELDS if isinstance(fields, GenerateRequest) else ())}
        unknown = sorted(self._raw.keys() - known)[:MOST_WARNINGS]
        self.warnings = [f"{name[:64]} is unknown and was ignored" for name in unknown]
        if isinstance(fields.think, str):
            self.warnings.append(f"think: {fields.think!r} is treated as true")
        if fields.think and fields.format:
            self.warnings.append(
                "think was ignored: format holds for the whole answer, and leaves no room for thoughts"
            )

    def apply_defaults(self, defaults: ModelfileDefaults) -> None:
        """Use the model's own options and system message where the request sets none."""
        self.options.apply_defaults(defaults.options, defaults.name)
        self.system = defaults.system
        self.template = defaults.template
        self.earlier = [Message(one.get("role", "user"), one.get("content", "")) for one in defaults.messages]

    @property
    def context(self) -> list[int]:
        """The tokens of an earlier text that this one continues."""
        return []

    @property
    def shifts(self) -> bool:
        """Whether a text goes on where the context is full."""
        return self.fields.shift is not False

    @property
    def thinks(self) -> bool | None:
        """Whether to think first; None leaves it to the model. A grammar leaves no room for thoughts."""
        think = self.fields.think
        return False if self.fields.format else think if think is None or isinstance(think, bool) else True

    def _engine_request(
        self,
        messages: list[Message] | None = None,
        prompt: str | None = None,
        tools: Toolbox = NO_TOOLS,
    ) -> TextRequest:
        fields = self.fields
        format = fields.format
        if isinstance(format, str) and format not in ("", "json"):
            raise BadRequest(f'format: {format[:64]!r} is not supported; use "json" or a JSON schema')
        return TextRequest(
            prompt=prompt,
            messages=messages,
            options=self.options.engine,
            format=cast(Literal["json"] | dict[str, Any] | None, format or None),
            logprobs=bool(fields.logprobs or fields.top_logprobs),
            top_logprobs=fields.top_logprobs or 0,
            think=self.thinks if messages is not None else None,
            split=messages is not None,
            truncate=fields.truncate is not False,
            context=self.context,
            **tools.request_fields(),
        )

    def text(self) -> TextRequest:
        """The request as a text request for the engine."""
        raise NotImplementedError


class Generate(Request):
    kind = "generate"
    fields: GenerateRequest

    def __init__(self, body: bytes) -> None:
        self.fields = parse_body(GenerateRequest, body)
        self._read(self.fields, body)
        self.empty = not self.fields.prompt and not self.fields.images and not self.fields.suffix

    def text(self) -> TextRequest:
        fields = self.fields
        if foreign := sorted(
            name for name in PICTURE_FIELDS & self._raw.keys() if self._raw[name] != b"null"
        ):
            raise BadRequest(f"{foreign[0]}: it is for models that draw pictures")
        self._refuse(
            {
                "mask": "this model reads text alone",
                "width": "this model writes text",
                "height": "this model writes text",
                "steps": "this model writes text",
                "loras": "adapters are for models that draw pictures",
            }
        )
        if fields.suffix:
            return self._infill(fields.prompt or "", fields.suffix)
        if fields.raw:
            if fields.system or fields.think:
                raise BadRequest(
                    "raw: it cannot be combined with system or think, which need the chat template"
                )
            if fields.template:
                raise BadRequest("raw: it cannot be combined with template; the prompt is taken as it is")
            if fields.context:
                raise BadRequest(
                    "raw: it cannot be combined with context, which is what the chat template has written"
                )
            if fields.images:
                raise BadRequest("raw: it cannot be combined with images, which need the chat template")
            return self._engine_request(prompt=fields.prompt)
        if fields.template:
            if fields.images:
                raise BadRequest("template: it cannot be combined with images, which need the chat template")
            return self._engine_request(prompt=self._rendered(fields.template))
        system = _system(fields.system or self.system)
        prompt = Message("user", fields.prompt or "", images=fields.images or None)
        return self._engine_request([*system, *([] if self.context else self.earlier), prompt])

    def _rendered(self, template: str, suffix: str = "") -> str:
        system = self.fields.system or self.system
        values = {"System": system, "Prompt": self.fields.prompt or "", "Suffix": suffix}
        try:
            return OllamaTemplate(template, limits=TEMPLATE_LIMITS).prompt(values)
        except GoTemplateError as error:
            raise BadRequest(f"template: {error}") from None

    def _infill(self, before: str, after: str) -> TextRequest:
        """What leads from the prompt to the suffix: by a template with a branch for it, else by the model's own tokens."""
        fields = self.fields
        for name in ("raw", "context", "images"):
            if getattr(fields, name):
                raise BadRequest(f"suffix: it cannot be combined with {name}")
        template = fields.template or (self.template if ".Suffix" in self.template else "")
        for name in ("think",) if template else ("system", "think"):
            if getattr(fields, name):
                self.warnings.append(f"{name} was ignored: what is filled in is no answer of a chat")
        if template:
            return self._filling(self._rendered(template, after), Infill(rendered=True))
        return self._filling(before, Infill(after))

    def _filling(self, prompt: str, infill: Infill) -> TextRequest:
        return replace(self._engine_request(prompt=prompt), infill=infill, context=None)

    @property
    def shifts(self) -> bool:
        return super().shifts and not self.fields.suffix

    @property
    def context(self) -> list[int]:
        return self.fields.context or []

    def picture(self) -> ImageCompletionRequest:
        """The request as a picture request for the engine."""
        fields = self.fields
        text_alone = "it is for text, and this model draws pictures"
        names = (
            "suffix",
            "system",
            "template",
            "context",
            "raw",
            "format",
            "think",
            "logprobs",
            "top_logprobs",
        )
        self._refuse(dict.fromkeys(names, text_alone))
        self.options.check_picture()
        more = {name: msgspec.json.decode(self._raw[name]) for name in PICTURE_FIELDS & self._raw.keys()}
        parameters = parse(
            ImageParameters,
            {name: value for name, value in more.items() if value is not None}
            | {"prompt": fields.prompt or ""},
        )
        if parameters.count > 1:
            raise BadRequest(f"variations: {parameters.count} were given; an answer here holds one picture")
        return ImageCompletionRequest(
            **values(parameters)
            | {
                "seed": self.options.seed,
                "width": fields.width,
                "height": fields.height,
                "steps": fields.steps,
                "loras": fields.loras,
            },
            images=fields.images or [],
            mask=fields.mask,
        )

    def _refuse(self, reasons: dict[str, str]) -> None:
        for name, why in reasons.items():
            if getattr(self.fields, name):
                raise BadRequest(f"{name}: {why}")


class Chat(Request):
    kind = "chat"
    fields: ChatRequest

    def __init__(self, body: bytes) -> None:
        self.fields = parse_body(ChatRequest, body)
        self._read(self.fields, body)
        self.empty = not self.fields.messages
        self.messages = [engine_message(turn, index) for index, turn in enumerate(self.fields.messages or [])]
        self.tools = [_tool(tool, index) for index, tool in enumerate(self.fields.tools or [])]

    def text(self) -> TextRequest:
        first = self.messages[0].role if self.messages else ""
        system = [] if first == "system" else _system(self.system)
        by_name = {tool["function"]["name"]: tool for tool in self.tools}
        toolbox = select_tools(by_name, self.fields.tool_choice)
        return self._engine_request([*system, *self.earlier, *self.messages], tools=toolbox)


def _system(content: str) -> list[Message]:
    return [Message("system", content)] if content else []


def engine_message(turn: Turn, index: int) -> Message:
    """A turn as the message that chat templates expect."""
    place = f"messages[{index}]"
    if turn.role not in ROLES:
        raise BadRequest(
            f"{place}.role: {turn.role[:64]!r} is not supported; supported are {', '.join(ROLES)}"
        )
    check_content(turn, place)
    return Message(
        role=turn.role,
        content=turn.content or "",
        images=turn.images or None,
        reasoning_content=turn.thinking or None,
        name=turn.tool_name or None,
        tool_call_id=turn.tool_call_id or None,
        tool_calls=[_call(call, place) for call in turn.tool_calls or []] or None,
    )


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") not in (None, "function") or not isinstance(function, dict):
        raise BadRequest(f"tools[{index}]: only tools of type function, with a function, are supported")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRequest(f"tools[{index}].function.name is missing; a string is needed")
    if not isinstance(function.get("parameters") or {}, dict) or isinstance(function.get("parameters"), bool):
        raise BadRequest(f"tools[{index}].function.parameters: an object is needed")
    fields = {
        "name": function["name"],
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": fields}


def _call(call: dict[str, Any], place: str) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRequest(f"{place}.tool_calls: function.name is missing; a string is needed")
    arguments = function.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise BadRequest(f"{place}.tool_calls: arguments must be an object")
    fields = {"name": function["name"], "arguments": arguments}
    return {"id": str(call.get("id") or ""), "type": "function", "function": fields}
