"""Grammars of answers that may be tool calls: calls follow their tools' schemas, and anything else is text, or follows the
request's own schema."""

import json
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import any_to_lark

from runner.engine.text.grammar import SCHEMA_BYTES, schema_text
from runner.engine.text.json_schema import SchemaError, schema_grammar
from runner.engine.text.output_parser import Markers
from runner.protocol.text import TextRequest

# Around a call's JSON, and between calls.
GAP = r"GAP: /[ \t\r\n]{1,8}/"
TEXT = "TEXT: /(?s:.*)/"


def own_grammar(request: TextRequest) -> str | None:
    """The grammar that a request brings itself, in llguidance's format."""
    if request.grammar is not None:
        definition = request.grammar.definition
        if request.grammar.syntax == "regex":
            return str(LLMatcher.grammar_from_regex(definition))
        text = _lark(definition)
    elif request.choice is not None:
        text = "start: " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in request.choice)
        if len(text.encode()) > SCHEMA_BYTES:
            raise SchemaError(
                f"the texts are too long; at most {SCHEMA_BYTES // 1024} KiB are allowed together"
            )
    else:
        return None if request.format in (None, "") else schema_grammar(schema_text(request.format))
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def _lark(definition: str) -> str:
    """A grammar in Lark's notation, from llama.cpp's if it has that one's sign for a rule."""
    if "::=" not in definition:
        return definition
    try:
        return str(any_to_lark(definition))
    except Exception as error:  # the converter has errors of many kinds
        raise SchemaError(f"neither in Lark's syntax nor in llama.cpp's: {error}"[:300]) from None


def answer_grammar(
    markers: Markers, calls: dict[str, Any], answer: str | None, special_tokens: Mapping[str, int]
) -> str:
    """In llguidance's format. `calls`: the schema of a call. `answer`: the grammar of an answer without calls; None: any text,
    with calls anywhere in it."""
    named = {"call": schema_grammar(schema_text(calls))}
    if answer is not None:
        named["answer"] = answer
    write = _text_or_calls if answer is None else _schema_or_calls
    grammars: list[dict[str, Any]] = [{"name": "main", "lark_grammar": write(markers, special_tokens)}]
    for name, grammar in named.items():
        (content,) = json.loads(grammar)["grammars"]
        grammars.append({**content, "name": name})
    return json.dumps({"grammars": grammars}, separators=(",", ":"))


def _schema_or_calls(markers: Markers, special_tokens: Mapping[str, int]) -> str:
    start, end = markers.call_start or "", markers.call_end
    matching_end = _matching(end, special_tokens) if end else ""
    rules = ["start: @answer | calls", "calls: (call GAP?)+"]
    if markers.json_calls:
        rules.append(f"call: {_matching(start, special_tokens)} GAP? @call GAP? {matching_end}")
    else:  # special tokens may stand between the parts of a call
        inner = sorted(id for text, id in special_tokens.items() if text not in (start, end))
        parts = f"(TEXT? <[{','.join(map(str, inner))}]>)*" if inner else ""
        lazy = bool(end) and end not in special_tokens
        rest = "rest" if lazy else f"TEXT? {matching_end}"
        rules.append(f"call: {_matching(start, special_tokens)} {parts} {rest}")
        rules += [f"rest[lazy]: TEXT {matching_end}"] if lazy else []
    return "\n".join([*rules, GAP, TEXT, ""])


def _text_or_calls(markers: Markers, special_tokens: Mapping[str, int]) -> str:
    """Special tokens around thoughts stay allowed, and those around calls beside the text that they stand for."""
    start, end = markers.call_start or "", markers.call_end
    rules = [
        "start: part* TEXT?",
        f"part: head GAP? @call GAP? {json.dumps(end, ensure_ascii=False)}",
        f"head[lazy]: TEXT {json.dumps(start, ensure_ascii=False)}",
    ]
    if start in special_tokens and end in special_tokens:
        rules[1] += f" | TEXT? <[{special_tokens[start]}]> GAP? @call GAP? <[{special_tokens[end]}]>"
    for marker in (markers.think_start, markers.think_end):
        if marker is not None and marker in special_tokens:
            rules[1] += f" | TEXT? <[{special_tokens[marker]}]>"
    return "\n".join([*rules, GAP, TEXT, ""])


def _matching(text: str, special_tokens: Mapping[str, int]) -> str:
    """What matches this text: the id of a special token, whose text is matched by nothing, or the text itself."""
    return f"<[{special_tokens[text]}]>" if text in special_tokens else json.dumps(text, ensure_ascii=False)
