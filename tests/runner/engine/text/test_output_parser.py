"""An answer taken apart: the same parts however it was cut."""

import json
from typing import Any

import pytest

from runner.engine.text.output_parser import Markers, OutputParser, ParsedDelta
from tests.runner.live import Live, events, text
from tests.toys import toy_text

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
MARKS = Markers("<think>", "</think>", "<call>", "</call>", lambda text, tools: json.loads(text))
OPEN_ENDED = Markers(None, None, "[CALLS]", "", lambda text, tools: json.loads(text))


def parsed(
    text: str, size: int, markers: Markers = MARKS, tools: Any = TOOLS, thinking: bool = False
) -> ParsedDelta:
    parser = OutputParser(markers, tools, thinking=thinking)
    pieces = [parser.push(text[at : at + size]) for at in range(0, len(text), size)] + [parser.finish()]
    return sum(pieces, ParsedDelta())


SIZES = [1, 2, 3, 7, 1000]
LOOK = '<call>{"name": "look", "arguments": {"at": "sea"}}</call>'
LOOKED = {"name": "look", "arguments": {"at": "sea"}}


@pytest.mark.parametrize("size", SIZES)
def test_thoughts_calls_and_words_come_apart(size: int) -> None:
    said = f"<think>\nSea or\n\nland?\n</think>\n\nI look. {LOOK}\n{LOOK}\n"
    assert parsed(said, size) == ParsedDelta("I look. ", "Sea or\n\nland?", [LOOKED, LOOKED])


@pytest.mark.parametrize("size", SIZES)
def test_a_thought_that_the_prompt_opened(size: int) -> None:
    assert parsed("Hm.\n</think>\n\nYes", size, thinking=True) == ParsedDelta("Yes", "Hm.")
    assert parsed("Hm.\n", size, thinking=True) == ParsedDelta("", "Hm.")


@pytest.mark.parametrize("size", SIZES)
def test_what_only_begins_like_a_mark_is_text(size: int) -> None:
    for said in ("a < b <thin> </think", "\n<cal", "</think> stays", "x\n\n"):
        assert parsed(said, size) == ParsedDelta(said)


@pytest.mark.parametrize("size", SIZES)
def test_a_call_that_cannot_be_read_is_text(size: int) -> None:
    for said in ('<call>{"name": 3}</call> so', "<call>never ends", '<call>{"name": "look", "arg'):
        assert parsed(said, size) == ParsedDelta(said)


@pytest.mark.parametrize("size", SIZES)
def test_calls_that_go_to_the_end(size: int) -> None:
    actual = parsed(f"Well[CALLS][{json.dumps(LOOKED)}, {json.dumps(LOOKED)}]", size, OPEN_ENDED)
    assert actual == ParsedDelta("Well", "", [LOOKED, LOOKED])


def test_without_tools_nothing_is_a_call() -> None:
    assert parsed(LOOK, 5, tools=None) == ParsedDelta(LOOK)


def test_a_call_inside_a_thought_leaves_the_thought_open() -> None:
    assert parsed(f"<think>a{LOOK}b</think>c", 4) == ParsedDelta("c", "ab", [LOOKED])


def test_a_runner_splits_when_it_is_asked_to() -> None:
    """The toy is made to say its marker: a bias lets nothing else come."""
    with Live(toy_text()) as live:
        (marker,) = live.http.post("/tokenize", json={"content": "<think>"}).json()["tokens"]
        body = {
            "messages": [{"role": "user", "content": "Why?"}],
            "options": {"num_predict": 3, "logit_bias": {str(marker): 100}},
        }
        plain = events(live.http.post("/completion", json=body))
        assert text(plain) == "<think>" * 3
        split = events(live.http.post("/completion", json={**body, "split": True}))
        assert text(split) == ""
        assert "".join(event.get("thinking", "") for event in split) == "<think>" * 2
        assert [event["token"] for event in split[:-1]] == [marker] * 3
        whole = live.http.post("/completion", json={**body, "split": True, "stream": False}).json()
        assert (whole["content"], whole["thinking"]) == ("", "<think>" * 2)
