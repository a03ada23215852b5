"""Answers that may be calls: a call follows its tool's schema, and what is not a call is text, or follows a schema."""

import copy
import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from runner.engine.text.answer_grammar import answer_grammar, own_grammar
from runner.engine.text.grammar import Grammars, Matcher
from runner.engine.text.json_schema import SchemaError, schema_grammar
from runner.engine.text.output_parser import Markers
from runner.engine.text.required_calls import call_schema
from runner.protocol.text import Grammar, TextRequest
from tests.runner.engine.text.test_grammar import allowed, end
from tests.runner.engine.text.vocabularies import byte_level

AT = {"type": "object", "properties": {"at": {"enum": ["sea", "land"]}}, "required": ["at"]}
CALLS = call_schema([{"function": {"name": "look", "parameters": AT}}, {"function": {"name": "wait"}}])
BOATS = {
    "type": "object",
    "properties": {"boats": {"type": "integer"}},
    "required": ["boats"],
    "additionalProperties": False,
}
LOOK = '{"name": "look", "arguments": {"at": "sea"}}'
WAIT = '{"name":"wait","arguments":{}}'
JSON = Markers(None, None, "<tool_call>", "</tool_call>", json_calls=True)
XML = Markers(None, None, "<tool_call>", "</tool_call>")
OPEN_ENDED = Markers(None, None, "[CALLS]", "")


def tokenizer_with(*added: str, special: bool = True) -> Tokenizer:
    tokenizer = copy.copy(byte_level())
    tokens = [AddedToken(text, special=special) for text in added]
    tokenizer.add_special_tokens(tokens) if special else tokenizer.add_tokens(tokens)
    return tokenizer


def outcome(text: str, markers: Markers, format: Any = BOATS, tokenizer: Tokenizer | None = None) -> bool:
    """Whether an answer may be this text."""
    tokenizer = tokenizer or byte_level()
    grammars = Grammars(tokenizer, tokenizer.get_vocab_size(), [end(tokenizer)])
    special = grammars.special_tokens
    answer = None if format is None else schema_grammar(json.dumps(format))
    grammar = grammars.compile_text(answer_grammar(markers, CALLS, answer, special), trial="")
    return accepts(grammar.matcher(), tokenizer, text)


def accepts(matcher: Matcher, tokenizer: Tokenizer, text: str) -> bool:
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        if token not in allowed(matcher):
            return False
        matcher.accept(token)
    return matcher.finished or end(tokenizer) in allowed(matcher)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"boats": 3}', True),
        (f"<tool_call>\n{LOOK}\n</tool_call>", True),
        (f"<tool_call>{LOOK}</tool_call>\n<tool_call>{WAIT}</tool_call>", True),
        ("three", False),
        ('{"boats": "three"}', False),
        (LOOK, False),
        (f"<tool_call>{LOOK.replace('sea', 'moon')}</tool_call>", False),
        (f"<tool_call>{LOOK}", False),
        (f'<tool_call>{LOOK}</tool_call>{{"boats": 3}}', False),
    ],
)
def test_an_answer_is_calls_or_follows_the_schema(text: str, fits: bool) -> None:
    assert outcome(text, JSON) is fits
    for special in (True, False):  # the engine takes what looks like a tag for a special token
        tokenizer = tokenizer_with("<tool_call>", "</tool_call>", special=special)
        assert outcome(text, JSON, tokenizer=tokenizer) is fits


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"boats": 3}', True),
        ("<tool_call>look<at>sea</at></tool_call>", True),
        ("<tool_call>look", False),
        ("look", False),
    ],
)
def test_calls_in_a_format_without_a_schema_begin_and_end_with_its_markers(text: str, fits: bool) -> None:
    assert outcome(text, XML) is fits
    assert (
        outcome(text, XML, tokenizer=tokenizer_with("<tool_call>", "</tool_call>", "<at>", "</at>")) is fits
    )


def test_a_format_without_an_end_runs_to_the_end_of_the_answer() -> None:
    mistral = tokenizer_with("[CALLS]", "[ARGS]")
    assert outcome('[CALLS]look[ARGS]{"at": "sea"}', OPEN_ENDED, tokenizer=mistral)
    assert outcome('{"boats": 3}', OPEN_ENDED, tokenizer=mistral)
    assert not outcome("look", OPEN_ENDED, tokenizer=mistral)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("The sea is blue.", True),
        ('In JSON: {"name": "look"} <tool', True),
        (f"I look. <tool_call>{LOOK}</tool_call>", True),
        (f"<tool_call>\n{LOOK}\n</tool_call>\n<tool_call>{WAIT}</tool_call> Well.", True),
        ("I <tool_call>look</tool_call>", False),
        (f"<tool_call>{LOOK.replace('look', 'leap')}</tool_call>", False),
        (f"<tool_call>{LOOK}", False),
    ],
)
def test_without_a_schema_an_answer_is_any_text_in_which_calls_are_held(text: str, fits: bool) -> None:
    thinking = Markers("<think>", "</think>", "<tool_call>", "</tool_call>", json_calls=True)
    assert outcome(text, thinking, None) is fits
    special = tokenizer_with("<tool_call>", "</tool_call>", "<think>", "</think>")
    assert outcome(text, thinking, None, special) is fits
    assert outcome(f"<think>So.</think>{text}", thinking, None, special) is fits


@pytest.mark.parametrize(
    "body",
    [
        TextRequest(grammar=Grammar("lark", '?start: "sea" | land\nland: "dry/land"')),
        TextRequest(grammar=Grammar("lark", 'start: "sea" | "dry/land" | "::="')),
        TextRequest(grammar=Grammar("lark", 'root ::= "sea" | land\nland ::= "dry/" "land"')),
        TextRequest(grammar=Grammar("regex", r"sea|dry\/land")),
        TextRequest(choice=["sea", "dry/land", 'a "new\nline\x01"']),
    ],
)
def test_an_answer_follows_the_grammar_of_its_bodyalso_beside_calls(body: TextRequest) -> None:
    tokenizer, own = byte_level(), own_grammar(body)
    assert own is not None
    grammars = Grammars(tokenizer, tokenizer.get_vocab_size(), [end(tokenizer)])
    call = f"<tool_call>{WAIT}</tool_call>"
    for text, fits in (("sea", True), ("dry/land", True), ("seas", False), ("dry", False)):
        assert accepts(grammars.compile_text(own, own).matcher(), tokenizer, text) is fits
        beside = grammars.compile_text(answer_grammar(JSON, CALLS, own, grammars.special_tokens), own)
        assert accepts(beside.matcher(), tokenizer, text) is fits
        assert accepts(beside.matcher(), tokenizer, call)
    for text in body.choice or []:
        assert accepts(grammars.compile_text(own, own).matcher(), tokenizer, text)


def test_grammars_that_cannot_be_read_and_texts_that_are_too_long_are_refused() -> None:
    with pytest.raises(SchemaError, match="neither in Lark's syntax"):
        own_grammar(TextRequest(grammar=Grammar("lark", 'root ::= ("sea"')))
    with pytest.raises(SchemaError, match="at most 128 KiB"):
        own_grammar(TextRequest(choice=["sea" * 30_000, "land" * 30_000]))
