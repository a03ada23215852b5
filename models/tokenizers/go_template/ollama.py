"""A chat as the values that Ollama gives a template, and the text that the template makes of it.

A template that knows .Messages gets the whole chat. One that does not is for one turn: a system text, a prompt, the answer to it;
it is rendered for each turn, the last time up to where the answer is.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from models.tokenizers.go_template.evaluate import Limits, evaluate
from models.tokenizers.go_template.lexer import GoTemplateError
from models.tokenizers.go_template.nodes import (
    Branch,
    Dot,
    Fields,
    Node,
    Operand,
    Output,
    Pipeline,
    Tree,
    Variable,
)
from models.tokenizers.go_template.parser import parse
from models.tokenizers.go_template.tools import tool_call, tool_values
from models.tokenizers.go_template.values import JSONList, Struct, Value

CANNOT_BEGIN = "the template continues an assistant's message at the end, and no new turn can follow it"
_RESPONSE = Output(Pipeline(((Fields(Dot(), ("Response",)),),)), 0)

Message = Mapping[str, Any]


def calls_as_json(source: str) -> bool:
    """Whether it shows calls of tools as JSON between <tool_call> and </tool_call>."""
    return (
        ".Tools" in source
        and "<tool_call>" in source
        and "<function=" not in source
        and "<arg_key>" not in source
    )


class OllamaTemplate:
    def __init__(self, source: str, begin: str = "", limits: Limits | None = None) -> None:
        """`begin`: the token that the tokenizer puts before every text."""
        self.source, self._begin, self._limits = source, begin, limits or Limits()

    @cached_property
    def _tree(self) -> Tree:
        tree = parse(self.source)
        if tree.fields.isdisjoint(("Messages", "Response")):
            tree = replace(tree, nodes=(*tree.nodes, _RESPONSE))
        return tree

    def check(self) -> None:
        """Raises GoTemplateError for one that is not valid, as all that follows."""
        self._tree  # noqa: B018

    def prompt(self, values: Mapping[str, str]) -> str:
        """Of a single turn: `System`, `Prompt` and others, up to the answer."""
        root = _root() | dict(values)
        if "Messages" in self._tree.fields:
            texts = (("system", root["System"]), ("user", root["Prompt"]))
            root["Messages"] = _messages([{"role": role, "content": text} for role, text in texts if text])[1]
        return self._evaluate(_up_to_response(self._tree.nodes)[0], root)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        think: bool | None = None,
        continues: bool = False,
    ) -> str:
        """`continues`: the last message, of the assistant, is the beginning of the answer; the text ends with it."""
        mark = f"<end {secrets.token_hex(8)}>"
        last = messages[-1]
        if last["role"] == "assistant" and not last.get("tool_calls"):
            messages = [*messages[:-1], {**last, "content": _content(last) + mark}]
        root = _root() | {
            "Tools": tool_values(tools or ()),
            "Think": bool(think),
            "IsThinkSet": think is not None,
        }
        text = self._chat(messages, root) if "Messages" in self._tree.fields else self._turns(messages, root)
        begun, marked, rest = text.rpartition(mark)
        if continues:
            return begun if marked else text
        if marked and not rest:
            raise GoTemplateError(CANNOT_BEGIN)
        return begun + rest

    def _chat(self, messages: Sequence[Message], root: dict[str, Value]) -> str:
        root["System"], root["Messages"] = _messages(messages)
        return self._evaluate(self._tree.nodes, root)

    def _turns(self, messages: Sequence[Message], root: dict[str, Value]) -> str:
        parts: list[str] = []
        turn = {"System": "", "Prompt": "", "Response": ""}
        places = {"system": "System", "user": "Prompt", "assistant": "Response"}
        for message in _messages(messages)[1]:
            role = message.fields["Role"]
            if role not in places:
                raise GoTemplateError(
                    f"it is for turns of a user and an assistant, and has no place for the role {role!r}"
                )
            ends = {"system": turn["Prompt"] or turn["Response"], "user": turn["Response"]}.get(role)
            if ends:
                parts.append(self._evaluate(self._tree.nodes, root | turn, first=not parts))
                turn = dict.fromkeys(turn, "")
            turn[places[role]] = message.fields["Content"]
            if role == "user" and "System" not in self._tree.fields:  # no place of its own
                turn = turn | {
                    "System": "",
                    "Prompt": "\n\n".join(filter(None, (turn["System"], turn["Prompt"]))),
                }
        nodes, _ = _up_to_response(self._tree.nodes)
        return "".join([*parts, self._evaluate(nodes, root | turn, first=not parts)])

    def _evaluate(self, nodes: Sequence[Node], root: Mapping[str, Value], first: bool = True) -> str:
        text = evaluate(self._tree, nodes, root, self._limits)
        return text if not first or text.startswith(self._begin) else self._begin + text


def _root() -> dict[str, Value]:
    texts = dict.fromkeys(("System", "Prompt", "Response", "Suffix", "ThinkLevel"), "")
    return {**texts, "Messages": [], "Tools": JSONList(), "Think": False, "IsThinkSet": False}


def _content(message: Message) -> str:
    content = message.get("content") or ""
    if not isinstance(content, str):
        raise GoTemplateError("it takes messages whose content is text")
    return content


def _messages(messages: Sequence[Message]) -> tuple[str, list[Value]]:
    """All system texts together, and the messages: those of one role that follow each other are one, except for tools'."""
    system = "\n\n".join(_content(message) for message in messages if message["role"] == "system")
    together: list[dict[str, Any]] = []
    for message in messages:
        if together and together[-1]["role"] == message["role"] != "tool":
            before = together[-1]
            before["content"] = f"{_content(before)}\n\n{_content(message)}"
            before["tool_calls"] = [*(before.get("tool_calls") or []), *(message.get("tool_calls") or [])]
        else:
            together.append(dict(message))
    return system, [_message(message) for message in together]


def _message(message: Message) -> Struct:
    thinking = message.get("thinking") or message.get("reasoning_content") or ""
    calls = [tool_call(call, at) for at, call in enumerate(message.get("tool_calls") or [])]
    fields = {
        "Role": message["role"], "Content": _content(message), "Thinking": thinking, "Images": [], "ToolCalls": calls,
        "ToolName": message.get("name") or "", "ToolCallID": message.get("tool_call_id") or "",
    }  # fmt: skip
    optional = {
        "thinking": thinking, "tool_calls": calls, "tool_name": fields["ToolName"], "tool_call_id": fields["ToolCallID"],
    }  # fmt: skip
    json = {
        "role": fields["Role"],
        "content": fields["Content"],
        **{name: value for name, value in optional.items() if value},
    }
    return Struct("Message", fields, json, writes_json=False)


def _up_to_response(nodes: Sequence[Node]) -> tuple[tuple[Node, ...], bool]:
    """The nodes up to the first that writes the answer, and whether there is one: nothing comes behind what is to be
    answered."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Branch):
            body, ended = _up_to_response(node.body)
            other, ended = ((), True) if ended else _up_to_response(node.other)
            node = replace(node, body=body, other=other)
        else:
            ended = isinstance(node, Output) and _writes_response(node.pipeline)
        kept.append(node)
        if ended:
            return tuple(kept), True
    return tuple(kept), False


def _writes_response(operand: Operand) -> bool:
    if isinstance(operand, Pipeline):
        return any(_writes_response(each) for command in operand.commands for each in command)
    if isinstance(operand, Fields):
        return "Response" in operand.names or _writes_response(operand.of)
    return isinstance(operand, Variable) and operand.name == "Response"
