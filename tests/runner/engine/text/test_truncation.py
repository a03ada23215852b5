"""A conversation that does not fit loses its oldest messages, where the request allows that."""

from typing import Any

import pytest

from runner.engine.text.prompts import Prompts
from runner.engine.text.truncation import cut
from runner.errors import BadRequest
from runner.protocol.text import TextRequest
from runner.protocol.text_rules import parse_text

CONTEXT = 80


class Words:
    """Each word of a message is a token, and each message has one more."""

    bos_token = None
    has_chat_template = True
    chat_template = "{{ tools }}"

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        return " ".join(f"{message['role']} {message['content']}" for message in messages)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [len(word) for word in text.split()]


@pytest.fixture
def prompts() -> Prompts:
    return Prompts(Words(), 1000, CONTEXT, (), lambda text: [])


def conversation(turns: int, words: int = 4, system: bool = True) -> list[dict[str, Any]]:
    """Each turn, with its answer, has 2 * (words + 1) tokens; the last has no answer."""
    text = " ".join(["word"] * (words - 1))
    messages = [{"role": "system", "content": "brief"}] if system else []
    for turn in range(turns):
        messages += [
            {"role": role, "content": f"{'w' * (turn + 1)} {text}"} for role in ("user", "assistant")
        ]
    return messages[:-1]


def request(messages: list[dict[str, Any]], truncate: bool = True, **options: Any) -> TextRequest:
    return parse_text({"messages": messages, "truncate": truncate, "options": options})


def first_turn(prompt: list[int]) -> int:
    """Which turn comes first after the system message: turns are told apart by the length of their first word."""
    return prompt[3] - 1


def test_a_conversation_that_fits_is_left_whole(prompts: Prompts) -> None:
    made = prompts.generate(request(conversation(7)))
    assert (len(made.prompt), first_turn(made.prompt), made.warnings) == (67, 0, [])


def test_the_oldest_turns_are_left_out_and_the_system_message_stays(prompts: Prompts) -> None:
    made = prompts.generate(request(conversation(10)))
    assert len(made.prompt) + made.max_tokens == CONTEXT
    assert made.prompt[:2] == [len("system"), len("brief")]
    assert first_turn(made.prompt) == 4
    assert made.warnings == [
        "messages: the 8 oldest messages were left out; all do not fit into the context of 80 tokens"
    ]


def test_an_eighth_of_the_context_is_left_for_the_answer_unless_it_is_shorter(prompts: Prompts) -> None:
    nearly = conversation(8)
    assert len(prompts.generate(request(nearly, num_predict=3)).prompt) == 77
    assert prompts.generate(request(nearly)).max_tokens >= CONTEXT // 8


def test_several_turns_begin_alike_so_that_the_prefix_cache_has_them(prompts: Prompts) -> None:
    cuts = [first_turn(prompts.generate(request(conversation(turns))).prompt) for turns in range(8, 20)]
    assert cuts == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12]


def test_num_ctx_is_the_context_that_counts(prompts: Prompts) -> None:
    made = prompts.generate(request(conversation(7), num_ctx=40))
    assert len(made.prompt) + made.max_tokens == 40


def test_tool_calls_are_not_cut_off_from_their_turn(prompts: Prompts) -> None:
    call = {"function": {"name": "look", "arguments": {}}}
    turn = [
        {"role": "user", "content": "u " * 10},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "t " * 10},
    ]
    made = prompts.generate(request([*turn, {"role": "assistant", "content": "a " * 10}] * 3 + turn))
    assert made.prompt[0] == len("user")


def test_what_does_not_fit_alone_loses_tokens_behind_its_beginning(prompts: Prompts) -> None:
    messages = [
        *conversation(3),
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "u " * 90},
    ]
    made = prompts.generate(request(messages))
    assert len(made.prompt) == 4 + (79 - 4 + 1) // 2
    assert made.warnings[-1] == (
        "prompt: 51 of its 93 tokens were left out; all do not fit into the context of 80 tokens"
    )


@pytest.mark.parametrize(
    ("keep", "left"),
    [(0, [5, 6, 7, 8, 9]), (2, [0, 1, 6, 7, 8, 9]), (-1, list(range(9))), (99, list(range(9)))],
)
def test_tokens_are_cut_so_that_half_of_the_rest_is_free(keep: int, left: list[int]) -> None:
    assert cut(list(range(10)), 10, keep) == left


def test_nothing_is_left_out_unless_that_is_allowed(prompts: Prompts) -> None:
    with pytest.raises(BadRequest, match="its 97 tokens do not fit into the context of 80 tokens"):
        prompts.generate(request(conversation(10), truncate=False))
