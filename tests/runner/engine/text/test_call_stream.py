"""Calls while they are written: the name once it is certain, then the arguments as they come."""

import json

import pytest

from runner.engine.text.call_stream import CallDeltas
from runner.engine.text.output_parser import Markers, OutputParser, ParsedDelta
from runner.engine.text.required_calls import RequiredCall
from runner.protocol.text import CallDelta

TOOLS = [{"type": "function", "function": {"name": "look"}}]
MARKS = Markers("<think>", "</think>", "<call>", "</call>", lambda text, tools: json.loads(text), True)
ARGUMENTS = '{"at": "the \\"sea\\" }", "far": [true, {}]}'
LOOK = f'{{"name": "look", "arguments": {ARGUMENTS}}}'
SIZES = [1, 3, 1000]


def streamed(parser: OutputParser | RequiredCall, text: str, size: int) -> ParsedDelta:
    pieces = [parser.push(text[at : at + size]) for at in range(0, len(text), size)] + [parser.finish()]
    return sum(pieces, ParsedDelta())


def calls(delta: ParsedDelta) -> list[tuple[str, str]]:
    """The calls that the deltas add up to."""
    assert not delta.tool_calls
    names, arguments = {}, dict[int, str]()
    for piece in delta.call_deltas:
        assert bool(piece.name) is (piece.index not in names), "only the first piece has the name"
        names.setdefault(piece.index, piece.name)
        arguments[piece.index] = arguments.get(piece.index, "") + piece.arguments
    assert list(names) == list(range(len(names)))
    return [(names[index], arguments[index]) for index in names]


def marked(text: str, size: int) -> ParsedDelta:
    return streamed(OutputParser(MARKS, TOOLS, calls=CallDeltas()), text, size)


@pytest.mark.parametrize("size", SIZES)
def test_arguments_are_passed_on_as_they_are_written(size: int) -> None:
    delta = marked(f"I look. <call>\n{LOOK}\n</call>\n<call>{LOOK}</call>", size)
    assert (delta.content, calls(delta)) == ("I look. ", [("look", ARGUMENTS)] * 2)
    if size == 1:
        assert len(delta.call_deltas) == 2 * len(ARGUMENTS)
    assert calls(streamed(RequiredCall(CallDeltas()), LOOK, size)) == [("look", ARGUMENTS)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("end", "arguments"), [('"the', '{"at": "the'), ('{"a', '{"a'), ('"argum', ""), ('"look"', "")]
)
def test_a_call_that_is_cut_keeps_what_was_written(end: str, arguments: str, size: int) -> None:
    cut = LOOK[: LOOK.index(end) + len(end)]
    assert calls(marked(f"<call>{cut}", size)) == [("look", arguments)]
    assert calls(streamed(RequiredCall(CallDeltas()), cut, size)) == [("look", arguments)]


@pytest.mark.parametrize("size", SIZES)
def test_a_call_that_is_cut_within_its_name_is_content(size: int) -> None:
    assert marked('<call>{"name": "lo', size) == ParsedDelta('<call>{"name": "lo')
    assert streamed(RequiredCall(CallDeltas()), '{"name": "lo', size) == ParsedDelta('{"name": "lo')


@pytest.mark.parametrize("size", SIZES)
def test_calls_in_another_order_come_whole(size: int) -> None:
    delta = marked('<call>{"arguments": {"at": "sea"}, "name": "look"}</call>', size)
    assert delta.call_deltas == [CallDelta(0, "look", '{"at":"sea"}')]
    xml = Markers(
        None, None, "<call>", "</call>", lambda text, tools: {"name": text, "arguments": {"at": "海"}}
    )
    delta = streamed(OutputParser(xml, TOOLS, calls=CallDeltas()), "<call>look</call><call>look</call>", size)
    assert calls(delta) == [("look", '{"at":"海"}')] * 2
