"""Text requests as they arrive: decoded, and checked for what types cannot express."""

import re
from typing import Any

import msgspec
from msgspec import field

from pipelines.limits import MOST_REFERENCES
from runner.errors import BadRequest
from runner.protocol.messages import check_messages
from runner.protocol.speculate import read_speculate
from runner.protocol.text import (
    MAX_SEED,
    OPTION_NAMES,
    Message,
    Options,
    TextRequest,
    parse,
    read_json,
    stop_strings,
)
from runner.protocol.validation import shown


class _KnownOptions(Options, frozen=True, forbid_unknown_fields=True):
    pass


class _KnownFields(TextRequest, frozen=True, forbid_unknown_fields=True):
    """A request as the gateway's APIs write it: no options at the top level, and nothing that is unknown."""

    options: _KnownOptions = field(default_factory=_KnownOptions)


def parse_text_body(body: bytes) -> tuple[TextRequest, dict[str, Any]]:
    """A text completion, and its body where that may hold more than the request does."""
    try:
        request = msgspec.json.decode(body, type=_KnownFields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = read_json(body)
        return parse_text(value), value
    _check_text(request)
    return request, {}


def parse_text(value: dict[str, Any]) -> TextRequest:
    """A text completion. Its options may stand under `options` or, as some clients have them, at the top level."""
    options = value.get("options")
    loose = {name: value[name] for name in OPTION_NAMES & value.keys() if value[name] is not None}
    if options is None or isinstance(options, dict):
        nested = {name: item for name, item in (options or {}).items() if item is not None}
        value = {**value, "options": {**loose, **nested}}
    request = parse(TextRequest, value)
    _check_text(request)
    if value.get("images"):
        raise BadRequest(
            "images: pictures belong to a message; send messages, and the pictures as images of one"
        )
    return request


def _check_text(request: TextRequest) -> None:
    _check_prompt(request)
    _check_tool_choice(request)
    _check_options(request.options)


def _check_prompt(request: TextRequest) -> None:
    if request.prompt is not None and request.messages is not None:
        raise BadRequest("prompt and messages are both given; send one of them")
    if request.infill is not None and (request.prompt is None or request.context):
        what = "needs a prompt, which may be empty" if request.prompt is None else "cannot follow a context"
        raise BadRequest(f"infill: it {what}")
    if request.messages is not None:
        check_messages(request.messages)
        _check_parts(request.messages)
        return
    if not request.prompt and not request.context and request.infill is None:
        state = "is missing" if request.prompt is None else "is empty"
        raise BadRequest(f"prompt {state}; some text is needed, or messages")
    if request.tools:
        raise BadRequest(
            "tools: they need messages, which the chat template renders with them; send messages instead of prompt"
        )


def _check_parts(messages: list[Message]) -> None:
    pictures = sum(len(message.images or []) for message in messages)
    if pictures > MOST_REFERENCES:
        raise BadRequest(f"messages: they have {pictures} pictures; at most {MOST_REFERENCES} are allowed")
    for at, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else []
        for index, part in enumerate(parts):
            if part.type == "text" and part.text is None:
                raise BadRequest(f"messages[{at}].content[{index}].text is missing")
        places, images = sum(part.type == "image" for part in parts), len(message.images or [])
        if places and places != images:
            raise BadRequest(
                f"messages[{at}].images: {images} are given, and the content has {places} parts of type image; as many "
                "are needed"
            )


def held_to(request: TextRequest) -> str | None:
    """The name of the field that holds the answer to a form, if there is one."""
    names = ("format", "grammar", "choice")
    given = [name for name in names if getattr(request, name) not in (None, "")]
    if len(given) > 1:
        raise BadRequest(f"{given[1]}: it cannot be combined with {given[0]}; an answer has one form")
    return given[0] if given else None


def _check_tool_choice(request: TextRequest) -> None:
    form = held_to(request)
    if request.tool_choice != "required":
        return
    if not request.tools:
        raise BadRequest("tool_choice: a call is required, but tools is empty")
    if form:
        raise BadRequest(
            f"{form}: it cannot be combined with a required tool call, which follows the tool's schema"
        )


def _check_options(options: Options) -> None:
    if options.seed is not None and not -(2**63) <= options.seed <= MAX_SEED:
        raise BadRequest(f"options.seed: {options.seed} is out of range; a 64-bit integer is allowed")
    read_speculate(options.speculate, "options.speculate")
    stops = stop_strings(options)
    if len(stops) > 64 or any(not stop or len(stop) > 1024 for stop in stops):
        raise BadRequest(
            f"options.stop: {shown(options.stop)} is not allowed; it must be up to 64 strings of 1 to 1024 characters"
        )
    for key in options.logit_bias:
        if not re.fullmatch(r"[0-9]{1,10}", key):
            raise BadRequest(
                f"options.logit_bias: {shown(key)} is not a token id; a non-negative integer is needed"
            )
