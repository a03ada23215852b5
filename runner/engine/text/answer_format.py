"""What form an answer takes: the grammar that it is held to, and how calls and thoughts in it are told apart."""

import json
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from runner.engine.text.call_stream import CallDeltas
from runner.engine.text.chat_prompts import ChatPrompt
from runner.engine.text.closed_schema import NOTE as CLOSED
from runner.engine.text.closed_schema import close_objects
from runner.engine.text.output_parser import Markers, OutputParser, markers_of
from runner.engine.text.required_calls import RequiredCall, call_schema
from runner.engine.text.thinking_budget import BudgetedGrammar, ThinkingTokens
from runner.engine.text.tool_prompts import NOTE, are_described, described_markers
from runner.errors import BadRequest
from runner.protocol.text import TextRequest
from runner.protocol.text_rules import held_to

if TYPE_CHECKING:
    from runner.engine.text.grammar import Grammar, Grammars

UNHELD = {"type": "object"}


class AnswerFormats:
    """Of one model."""

    def __init__(self, tokenizer: Any, vocab: int, stop_tokens: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._stop_tokens = stop_tokens

    @cached_property
    def _grammars(self) -> "Grammars":
        from runner.engine.text.grammar import Grammars  # slow to import, and not always needed

        return Grammars(self._tokenizer, self._vocab, self._stop_tokens)

    def grammar(self, request: TextRequest) -> tuple["Grammar | None", list[str]]:
        """The grammar of an answer, if it is held to one, and warnings."""
        tools, form = request.tools or [], held_to(request)
        described = are_described(self._tokenizer, request)
        warnings = [NOTE] if described else []
        if request.tool_choice == "required":
            return self._required_call(tools), warnings
        if isinstance(request.format, dict):
            format, closes = _closed(request.format)
            request = replace(request, format=format)
            warnings += [f"format: {CLOSED}"] if closes else []
        answer, grammar = self._own(request, form) if form else (None, None)
        if not described and (not tools or form is None):
            return grammar, warnings
        try:
            return self._with_calls(self._markers(request), call_schema(tools), answer), warnings
        except BadRequest as error:
            reason = error.message.removeprefix("format: ")
            warnings.append(f"tools: the arguments of calls are not held to their schemas: {reason}")
        names = [{"function": {"name": _name(tool), "parameters": UNHELD}} for tool in tools]
        return self._with_calls(self._markers(request), call_schema(names), answer), warnings

    def _own(self, request: TextRequest, form: str) -> tuple[str, "Grammar"]:
        """The grammar that a request brings: as text, and compiled."""
        from runner.engine.text.answer_grammar import own_grammar
        from runner.engine.text.json_schema import SchemaError

        try:
            text = own_grammar(request) or ""
            return text, self._grammars.compile_text(text, trial="" if request.format == "json" else text)
        except (SchemaError, BadRequest) as error:
            reason = error.message if isinstance(error, BadRequest) else str(error)
            raise BadRequest(f"{form}: {reason.removeprefix('format: ')}") from None

    def _required_call(self, tools: list[dict[str, Any]]) -> "Grammar":
        schema = call_schema(tools)
        try:
            return self._grammars.compile(schema)
        except BadRequest as error:
            raise BadRequest(f"tools{error.message.removeprefix('format')}") from None

    def _with_calls(self, markers: Markers, calls: dict[str, Any], answer: str | None) -> "Grammar":
        from runner.engine.text.answer_grammar import answer_grammar

        text = answer_grammar(markers, calls, answer, self._grammars.special_tokens)
        return self._grammars.compile_text(text, trial=answer_grammar(markers, calls, answer, {}))

    def _markers(self, request: TextRequest) -> Markers:
        markers = markers_of(self._tokenizer)
        return described_markers(markers) if are_described(self._tokenizer, request) else markers

    def budgeted(
        self, request: TextRequest, chat: ChatPrompt | None, grammar: "Grammar | None", warnings: list[str]
    ) -> "Grammar | BudgetedGrammar | None":
        """What the answer is held to, with a limit for its thoughts if one was asked for."""
        if request.thinking_budget is None or held_to(request) or request.tool_choice == "required":
            return grammar  # which leaves no room for thoughts
        markers = self._markers(request)
        if not markers.think_start or not markers.think_end:
            warnings.append("thinking_budget was ignored: this model does not think")
            return grammar
        thinking = _starts_thinking(markers, chat or ChatPrompt(_text(request.prompt)))
        tokens = self._thinking_tokens(markers.think_start, markers.think_end)
        return BudgetedGrammar(tokens, request.thinking_budget, thinking, self._vocab, grammar)

    def _thinking_tokens(self, start: str, end: str) -> ThinkingTokens:
        def ids(text: str) -> tuple[int, ...]:
            return tuple(self._tokenizer.encode(text, add_special_tokens=False))

        # The line breaks are those that models write around it themselves.
        return ThinkingTokens(ids(start), ids(end), ids(f"\n{end}\n\n"))

    def parser(self, request: TextRequest, chat: ChatPrompt | None) -> OutputParser | RequiredCall:
        calls = CallDeltas() if request.call_deltas else None
        if request.tool_choice == "required":
            return RequiredCall(calls)
        markers = self._markers(request)
        thinking = _starts_thinking(markers, chat or ChatPrompt(_text(request.prompt)))
        # With a grammar there is no thinking: it only allows the answer.
        thinking = thinking and held_to(request) is None
        return OutputParser(markers, request.tools, thinking=thinking, calls=calls)


def _text(prompt: str | list[int | str] | None) -> str:
    """A prompt as far as it is text."""
    return prompt or "" if not isinstance(prompt, list) else str(prompt[-1])


def _closed(format: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    try:
        copy: dict[str, Any] = json.loads(json.dumps(format))
        return copy, close_objects(copy)
    except RecursionError:
        raise BadRequest("format: the schema is nested too deeply") from None


def _name(tool: dict[str, Any]) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _starts_thinking(markers: Markers, chat: ChatPrompt) -> bool:
    """Whether the answer starts inside thinking: the prompt ends with its marker, or the begun answer has not closed it."""
    if markers.think_start is None:
        return False
    begun = chat.begun or ""
    unclosed = begun.rfind(markers.think_start) > begun.rfind(markers.think_end or markers.think_start)
    return unclosed or chat.text.rstrip().endswith(markers.think_start)
