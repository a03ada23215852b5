"""Turns of content blocks as the messages that chat templates expect."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from runner.errors import BadRequest
from runner.protocol.text import Message, Part, content_parts

ROLES = ("user", "assistant", "system")
# Claude Code's first block of every system prompt: it is for billing, differs between sessions, and would keep
# prompts from beginning alike.
BILLING = "x-anthropic-billing-header:"
# Blocks that this server never writes: what tools of Anthropic's servers have done.
SERVER_BLOCKS = ("server_tool_use", "mcp_tool_use", "container_upload", "compaction", "fallback")
SERVER_RESULT = "_tool_result"
REMINDER = "<system-reminder>\n{}\n</system-reminder>"


class Source(Struct, frozen=True):
    type: str
    media_type: str | None = None
    data: str | None = None
    content: "Content | None" = None


class Block(Struct, frozen=True):
    """A block of any type; which fields it has depends on that."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    context: str | None = None
    content: "Content | dict[str, Any] | None" = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    tool_name: str | None = None
    is_error: bool | None = None
    thinking: str | None = None


Content = str | list[Block]


class Turn(Struct, frozen=True):
    role: str
    content: Content


def engine_messages(
    system: Content | None, turns: list[Turn], kept_thoughts: int | None, warnings: list[str]
) -> tuple[list[Message], list[str]]:
    """The messages, and the thoughts that were left out. `kept_thoughts`: how many of the last turns keep theirs."""
    conversation = _Conversation(warnings)
    if system is not None:
        conversation.instruct(_system_text(system, "system"))
    for index, turn in enumerate(turns):
        conversation.add(turn, f"messages[{index}]")
    cleared = conversation.clear_thoughts(kept_thoughts)
    if not conversation.messages or all(message.role == "system" for message in conversation.messages):
        raise BadRequest("messages: a user's message with some content is needed")
    return conversation.messages, cleared


class _Parts:
    """The text and the pictures of a message, in their order. Texts side by side become one."""

    def __init__(self, separator: str = "\n\n") -> None:
        self.parts: list[Part] = []
        self.images: list[str] = []
        self._separator = separator

    def add_text(self, text: str) -> None:
        if self.parts and self.parts[-1].type == "text":
            texts = filter(None, (self.parts.pop().text, text))
            text = self._separator.join(texts)
        self.parts.append(Part("text", text))

    def add_image(self, data: str) -> None:
        self.parts.append(Part("image"))
        self.images.append(data)

    def of(self, message: Message) -> Self:
        self.parts, self.images = content_parts(message), list(message.images or [])
        return self

    def __add__(self, other: "_Parts") -> Self:
        images = iter(other.images)
        for part in other.parts:
            if part.type == "image":
                self.add_image(next(images))
            else:
                self.add_text(part.text or "")
        return self

    def message(self, role: str = "user") -> Message:
        if self.images:
            return Message(role, self.parts, images=self.images)
        return Message(role, "".join(part.text or "" for part in self.parts))


class _Conversation:
    def __init__(self, warnings: list[str]) -> None:
        self.messages: list[Message] = []
        self._warnings = warnings
        self._tools: dict[str, str] = {}  # names, by the ids of their calls

    def instruct(self, text: str) -> None:
        if text:
            self._append(Message("system", text))

    def add(self, turn: Turn, place: str) -> None:
        if turn.role not in ROLES:
            raise BadRequest(
                f"{place}.role: {turn.role[:64]!r} is not supported; supported are {', '.join(ROLES)}"
            )
        if turn.role == "system":
            self._remind(_system_text(turn.content, place))
        elif turn.role == "user":
            self._ask(_blocks(turn.content), f"{place}.content")
        else:
            self._answer(_blocks(turn.content), f"{place}.content")

    def _remind(self, text: str) -> None:
        """Many templates accept a system message at the beginning alone; later ones are part of what the user says."""
        if all(message.role == "system" for message in self.messages):
            self.instruct(text)
        elif text:
            self._append(Message("user", REMINDER.format(text)))

    def _ask(self, blocks: list[Block], place: str) -> None:
        parts, shown = _Parts(), _Parts()
        for index, block in enumerate(blocks):
            where = f"{place}[{index}]"
            if block.type == "tool_result":
                self._say(parts)
                parts = _Parts()
                self._return(block, where, shown)
            else:
                self._add(parts, block, where)
        # Chat templates take no pictures in what tools return, so the user shows them.
        self._say(shown + parts)

    def _say(self, parts: "_Parts") -> None:
        if parts.parts:
            self._append(parts.message())

    def _add(self, parts: "_Parts", block: Block, place: str) -> None:
        if block.type == "image":
            parts.add_image(_image(block, place))
        elif (text := self._text(block, place)) is not None:
            parts.add_text(text)

    def _return(self, block: Block, place: str, shown: "_Parts") -> None:
        """The result of a tool; its pictures are added to those that are shown afterwards."""
        if not block.tool_use_id:
            raise BadRequest(f"{place}.tool_use_id is missing; it must be the id of a tool_use block")
        content = block.content
        if isinstance(content, dict):
            raise BadRequest(f"{place}.content: an object is not allowed; text or a list of blocks is needed")
        parts = _Parts("\n")
        for index, part in enumerate(_blocks(content or "")):
            self._add(parts, part, f"{place}.content[{index}]")
        for image in parts.images:
            shown.add_image(image)
        text = "\n".join(part.text or "" for part in parts.parts if part.type == "text")
        self.messages.append(
            Message(
                "tool",
                f"Error: {text}" if block.is_error else text,
                tool_call_id=block.tool_use_id,
                name=self._tools.get(block.tool_use_id),
            )
        )

    def _answer(self, blocks: list[Block], place: str) -> None:
        texts, thoughts, calls = [], [], []
        for index, block in enumerate(blocks):
            where = f"{place}[{index}]"
            if block.type == "thinking":
                thoughts.append(block.thinking or "")
            elif block.type == "tool_use":
                calls.append(self._call(block, where))
            elif block.type != "redacted_thinking" and (text := self._text(block, where)) is not None:
                texts.append(text)
        if texts or thoughts or calls:
            self._append(
                Message(
                    "assistant",
                    "".join(texts),
                    tool_calls=calls or None,
                    reasoning_content="\n".join(filter(None, thoughts)) or None,
                )
            )

    def _call(self, block: Block, place: str) -> dict[str, Any]:
        if not block.name:
            raise BadRequest(f"{place}.name is missing; it must be the name of the tool")
        if block.input is not None and not isinstance(block.input, dict):
            raise BadRequest(f"{place}.input: an object is needed")
        id = block.id or ""
        self._tools[id] = block.name
        arguments = msgspec.json.encode(block.input or {}).decode()
        return {"id": id, "type": "function", "function": {"name": block.name, "arguments": arguments}}

    def _append(self, message: Message) -> None:
        """Turns of one role that follow each other are one turn."""
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != message.role:
            self.messages.append(message)
            return
        parts = _Parts("" if message.role == "assistant" else "\n\n").of(last) + _Parts().of(message)
        thoughts = filter(None, (last.reasoning_content, message.reasoning_content))
        self.messages[-1] = replace(
            parts.message(message.role),
            tool_calls=[*(last.tool_calls or []), *(message.tool_calls or [])] or None,
            reasoning_content="\n".join(thoughts) or None,
        )

    def _text(self, block: Block, place: str) -> str | None:
        """A block as text; None if it is left out, which the warnings say."""
        if block.type == "text":
            if block.text is None:
                raise BadRequest(f"{place}.text is missing; text is needed")
            return block.text
        if block.type == "document":
            return _document(block, place)
        if block.type == "search_result":
            return "\n".join(filter(None, (block.title, _source_name(block), _joined(block.content, place))))
        if block.type == "tool_reference":
            return f"The tool {block.tool_name or block.name} is available."
        if block.type in SERVER_BLOCKS or block.type.endswith(SERVER_RESULT):
            self._warnings.append(f"{place} was left out: blocks of type {block.type[:64]} are not supported")
            return None
        raise BadRequest(
            f"{place}.type: {block.type[:64]!r} is not supported here; supported are text, image, document, "
            "search_result, thinking, tool_use and tool_result"
        )

    def clear_thoughts(self, kept: int | None) -> list[str]:
        """Leave out the thoughts of all but the last turns that have some; one text for each turn."""
        thinking = [index for index, message in enumerate(self.messages) if message.reasoning_content]
        cleared: list[str] = []
        for index in [] if kept is None else thinking[: max(0, len(thinking) - kept)]:
            cleared.append(self.messages[index].reasoning_content or "")
            self.messages[index] = replace(self.messages[index], reasoning_content=None)
        self.messages = [message for message in self.messages if not _is_empty(message)]
        return cleared


def _is_empty(message: Message) -> bool:
    parts = (message.content, message.tool_calls, message.reasoning_content)
    return message.role == "assistant" and not any(parts)


def _blocks(content: Content) -> list[Block]:
    return [Block("text", content)] if isinstance(content, str) else content


def _system_text(content: Content, place: str) -> str:
    return _joined([block for block in _blocks(content) if not (block.text or "").startswith(BILLING)], place)


def _joined(content: Content | dict[str, Any] | None, place: str) -> str:
    """The text of blocks that may only be text."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):
        return json.dumps(content, ensure_ascii=False)
    return "\n\n".join(_texts(content, place))


def _texts(blocks: Iterable[Block], place: str) -> Iterator[str]:
    for block in blocks:
        if block.type != "text":
            raise BadRequest(
                f"{place}: a block of type {block.type[:64]!r} is not supported here; only text is"
            )
        yield block.text or ""


def _source_name(block: Block) -> str:
    return block.source if isinstance(block.source, str) else ""


def _image(block: Block, place: str) -> str:
    """A picture in base64."""
    source = block.source
    if not isinstance(source, Source) or source.type != "base64" or not source.data:
        kind = source.type if isinstance(source, Source) else "none"
        raise BadRequest(
            f"{place}.source.type: {kind[:64]!r} is not supported: nothing is fetched; send the picture itself, as base64"
        )
    if not (source.media_type or "image/").startswith("image/"):
        raise BadRequest(
            f"{place}.source.media_type: {source.media_type!r} is not supported; pictures (image/png, …) are"
        )
    return source.data


def _document(block: Block, place: str) -> str:
    source = block.source
    if isinstance(source, Source) and source.type == "text":
        text = source.data or ""
    elif isinstance(source, Source) and source.type == "content":
        text = _joined(source.content, f"{place}.source.content")
    else:
        kind = source.type if isinstance(source, Source) else "none"
        raise BadRequest(
            f"{place}.source.type: {kind[:64]!r} is not supported; send the document's text, as text or content"
        )
    return "\n".join(filter(None, (block.title, block.context, text)))
