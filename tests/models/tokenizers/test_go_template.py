"""Ollama's templates: the language of Go's text/template, and the chats that Ollama renders with it."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from models.tokenizers.go_template import GoTemplateError, Limits, OllamaTemplate, calls_as_json
from models.tokenizers.ollama_tokenizer import read_go_template

CHAT: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Who are you?"},
]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks <somewhere>",
            "parameters": {
                "type": "object",
                "properties": {"to": {"type": ["string", "null"], "minLength": 1}, "at": {"type": "integer", "enum": [1, 2]}},
                "required": ["at"],
            },
        },
    }
]  # fmt: skip
CALLED: Any = [
    {"role": "user", "content": "Look at 1"},
    {"role": "assistant", "content": "", "reasoning_content": "Where?",
     "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": {"b": None, "at": 1}}}]},
    {"role": "tool", "name": "look", "tool_call_id": "c1", "content": "a boat"},
]  # fmt: skip


def prompt(template: str, **values: str) -> str:
    return OllamaTemplate(template).prompt({"Prompt": "p", "System": "s"} | values)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a {{- .Prompt -}} b", "apb"),
        ("a{{/* a comment */}} {{- /* another\n*/ -}} b", "ab"),
        ("{{ if and .System (not .Suffix) }}1{{ else }}2{{ end }}", "1"),
        ("{{ if .Suffix }}1{{ else if eq .Prompt \"x\" \"p\" }}2{{ else }}3{{ end }}", "2"),
        ("{{ with .Suffix }}1{{ else with .System }}{{ . }}{{ $.Prompt }}{{ end }}", "sp"),
        ("{{ $n := 1 }}{{ if true }}{{ $n = 2 }}{{ $n := 3 }}{{ $n }}{{ end }}{{ $n }}", "32"),
        ("{{ range $i, $_ := slice \"abcd\" 1 3 | printf \"%s\" | len }}{{ $i }}{{ end }}", "01"),
        ("{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if ge . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}", "02"),
        ("{{ range .Tools }}x{{ else }}none{{ end }}", "none"),
        ("{{ define \"t\" }}<{{ . }}{{ $ }}>{{ end }}{{ template \"t\" .Prompt }}{{ block \"u\" .System }}[{{ . }}]{{ end }}", "<pp>[s]"),
        ("{{ printf \"%s|%5d|%-4v|%q|%05.1f|%x|%%|%t\" .Prompt 42 true \"a\\\"\" 2.25 \"hi\" false }}", "p|   42|true|\"a\\\"\"|002.2|6869|%|false"),
        ("{{ print 1 2 \"a\" 3 nil }}{{ println .Prompt 1 }}", "1 2a3 <nil>p 1\n"),
        ("{{ json \"<a>&\\u00e9\" }} {{ json 1.5 }} {{ .Suffix | json }}", '"\\u003ca\\u003e\\u0026é" 1.5 ""'),
        ("{{ index \"abc\" 1 }}{{ 'a' }} {{ 0x10 }} {{ 1e6 }} {{ 0.25 }} {{ `raw\\n` }}{{ \"\\t\\x41\\u00e9\" }}", "9897 16 1e+06 0.25 raw\\n\tAé"),
        ("{{ len \"é\" }}{{ lt 1 2 }}{{ le \"a\" \"a\" }}{{ ne 1 2 }}{{ gt 1.5 1.0 }}{{ or .Suffix 0 \"x\" }}{{ and 1 0 2 }}", "2truetruetruetruex0"),
        ("{{ and false (index .Tools 99) }}", "false"),
        ("{{ html \"<a>\" }}{{ urlquery \"a b&\" }}", "&lt;a&gt;a+b%26"),
        ("{{ (index (slice \"xyz\" 1) 0) }}", "121"),
    ],
)  # fmt: skip
def test_the_language_is_go_s(template: str, text: str) -> None:
    assert prompt(template) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ if .Prompt }}", "an {{ end }} is missing"),
        ("{{ end }}", "end is outside of a block"),
        ("a\n{{ foo .Prompt }}", "line 2: the function 'foo' is not supported; these are: and, "),
        ("{{ .Prompt", "not closed"),
        ("{{ break }}", "break is outside of a range"),
        ("{{ template \"t\" . }}", "the template 't' is not defined"),
        ("{{ define \"t\" }}{{ template \"t\" . }}{{ end }}{{ template \"t\" . }}", "blocks inside each other"),
        ("{{ range 100000000000 }}{{ end }}", "more than 1,000 steps"),
        ("{{ $x := \"ab\" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}", "more than 4,096 characters"),
        ("{{ range 9999 }}{{ $.Prompt }}{{ end }}", "more than 1,000 steps"),
        ("{{ printf \"%99999d\" 1 }}", "printf"),
        ("{{ printf \"%1001d\" 1 }}", "wider than 1000"),
        ("{{ printf \"%d\" \"a\" }}", "does not write a value of the type string"),
        ("{{ printf \"%y\" 1 }}", "%y is not supported"),
        ("{{ $x }}", "$x is not defined"),
        ("{{ .Prompt.Name }}", "a string has no field .Name"),
        ("{{ (index .Messages 0).Name }}", ".Name is not a field of Message, which has .Role"),
        ("{{ index .Messages 7 }}", "out of range"),
        ("{{ slice .Prompt 2 1 }}", "out of range"),
        ("{{ eq 1 \"a\" }}", "not comparable"),
        ("{{ eq .Prompt }}", "eq has 1 arguments; at least 2 are needed"),
        ("{{ lt true false }}", "no order"),
        ("{{ len 3 }}", "has no length"),
        ("{{ .Prompt 1 }}", "has arguments"),
        ("{{ range .Prompt }}{{ end }}", "a range over a string"),
        ("{{ \"\\z\" }}", "is not an escape"),
        ("{{ 1 | 2 }}", "has arguments"),
        ("{{ ( 1 }}", "a ) is missing"),
        ("{{ if }}{{ end }}", "a value is missing"),
        ("{{ if true }}" * 50 + "{{ end }}" * 50, "more than 40 blocks"),
        ("{{" + "(" * 50 + "1" + ")" * 50 + "}}", "more than 40 brackets"),
        ("{{ else }}", "else is outside"),
        ("x" * 1_000_001, "at most 1,000,000"),
        ("{{1}}" * 100_001, "more than 100,000 words"),
        ("{{ define \"t\" }}" * 3, "a define stands outside of blocks"),
        ("{{ $a, $b, $c := 1 }}", "is not expected there"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_endless_is_an_error_that_says_so(template: str, reason: str) -> None:
    chosen = OllamaTemplate(template, limits=Limits(steps=1000, characters=4096))
    with pytest.raises(GoTemplateError) as refused:
        chosen.prompt(
            {"Prompt": "p", "System": "s"} | ({"Messages": ""} if "Messages" not in template else {})
        )
    assert reason in str(refused.value)


def test_a_template_for_one_turn_is_rendered_for_each() -> None:
    template = OllamaTemplate(
        "{{ if .System }}<sys>{{ .System }}\n{{ end }}{{ if .Prompt }}<user>{{ .Prompt }}\n{{ end }}<bot>{{ .Response }}<end>\n",
        "<s>",
    )
    assert template.render(CHAT) == "<s><sys>Be brief.\n<user>Hi\n<bot>Hello.<end>\n<user>Who are you?\n<bot>"
    begun = [*CHAT, {"role": "assistant", "content": "I am"}]
    assert template.render(begun, continues=True).endswith("<user>Who are you?\n<bot>I am")
    with pytest.raises(GoTemplateError, match="no new turn"):
        template.render(begun)
    with pytest.raises(GoTemplateError, match="no place for the role 'tool'"):
        template.render(CALLED)
    bare = OllamaTemplate("[INST] {{ .Prompt }} [/INST]")
    assert bare.render(CHAT) == "[INST] Be brief.\n\nHi [/INST]Hello.[INST] Who are you? [/INST]"


CHATML = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}{{ if and $.IsThinkSet (not $.Think) }} /no_think{{ end }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{- range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}
{{- if not $last }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>{{ .ToolName }}: {{ .Content }}</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}"""


def test_a_template_for_a_whole_chat_gets_it() -> None:
    template = OllamaTemplate(CHATML)
    assert template.render(CHAT) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "Hi /no_think<|im_end|>" in template.render(CHAT, think=False)
    assert template.render(CHAT, think=True) == template.render(CHAT)
    begun = [*CHAT, {"role": "assistant", "content": "I am"}]
    assert template.render(begun, continues=True).endswith("<|im_start|>assistant\nI am")
    with pytest.raises(GoTemplateError, match="no new turn"):
        template.render(begun)


def test_what_stands_behind_a_begun_answer_is_left_out() -> None:
    closes = OllamaTemplate("{{ range .Messages }}<{{ .Role }}>{{ .Content }}</>{{ end }}<assistant>")
    begun = [CHAT[1], {"role": "assistant", "content": "a"}]
    assert closes.render(begun, continues=True) == "<user>Hi</><assistant>a"
    assert closes.render(begun) == "<user>Hi</><assistant>a</><assistant>"


def test_calls_thoughts_and_results_are_written() -> None:
    text = OllamaTemplate(CHATML).render(CALLED)
    assert (
        '<think>Where?</think><tool_call>{"name": "look", "arguments": {"at":1,"b":null}}</tool_call><|im_end|>'
        in text
    )
    assert "<tool_response>look: a boat</tool_response>" in text


def test_tools_are_json_as_go_writes_it() -> None:
    shown = OllamaTemplate("{{ range .Messages }}{{ end }}{{ .Tools }}").render(CHAT, TOOLS)
    assert "Looks \\u003csomewhere\\u003e" in shown
    read = json.loads(shown)
    assert read[0]["function"]["parameters"]["properties"]["to"]["minLength"] == 1, "nothing is left out"
    assert read == TOOLS
    parts = (
        "{{ range .Messages }}{{ end }}{{ range .Tools }}{{ .Function.Name }}({{ range $name, $p := .Function.Parameters.Properties }}"
        "{{ $name }}: {{ toTypeScriptType $p }}/{{ $p.ToTypeScriptType }} {{ $p.Type }} {{ $p.Enum }};{{ end }})"
        "{{ json .Function.Parameters.Required }}{{ end }}"
    )
    assert OllamaTemplate(parts).render(CHAT, TOOLS) == (
        'look(at: number/number integer [1 2];to: string | null/string | null [string null] [];)["at"]'
    )


def test_messages_of_one_role_are_one() -> None:
    template = OllamaTemplate("{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}{{ .System }}")
    chat = [CHAT[0], CHAT[1], CHAT[3], CHAT[0]]
    assert (
        template.render(chat)
        == "system=Be brief.;user=Hi\n\nWho are you?;system=Be brief.;Be brief.\n\nBe brief."
    )


def test_content_that_is_not_text_and_strange_tools_are_refused() -> None:
    template = OllamaTemplate("{{ range .Messages }}{{ .Content }}{{ end }}")
    with pytest.raises(GoTemplateError, match="content is text"):
        template.render([{"role": "user", "content": [{"type": "image"}]}])
    with pytest.raises(GoTemplateError, match="has to be an object"):
        template.render(
            CHAT, [{"type": "function", "function": {"name": "a", "parameters": {"properties": {"a": 3}}}}]
        )


def test_a_mutated_template_is_an_error_or_a_text() -> None:
    chance = random.Random(5)
    pieces = [
        "{{",
        "}}",
        "-",
        "end",
        "range",
        "$",
        ".",
        "(",
        "|",
        '"',
        "if",
        ":=",
        "\\",
        "\n",
        " ",
        "else",
        "9",
    ]
    for _ in range(400):
        at = chance.randrange(len(CHATML))
        text = CHATML[:at] + chance.choice(pieces) + CHATML[at + chance.randrange(6) :]
        with suppress(GoTemplateError):
            assert isinstance(OllamaTemplate(text, limits=Limits(steps=10_000)).render(CALLED, TOOLS), str)


def test_the_form_of_calls_is_known() -> None:
    assert calls_as_json("{{ .Tools }}<tool_call>")
    assert not calls_as_json("{{ .Tools }}<tool_call><function=")
    assert not calls_as_json("<tool_call>")


def test_the_tokenizer_of_a_folder_gets_it(tmp_path: Path) -> None:
    (tmp_path / "chat_template.gotmpl").write_text(CHATML)
    assert read_go_template(tmp_path) == CHATML
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert read_go_template(tmp_path) is None
