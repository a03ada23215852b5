"""Prompts around a middle, with a vocabulary in which every character is a token, and some words are one too."""

import re

import pytest

from runner.engine.text.infill import InfillPrompts
from runner.errors import BadRequest
from runner.protocol.text import Infill, InfillFile

QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>")
START = 7


class Words:
    def __init__(self, *words: str) -> None:
        self.vocabulary = {word: 1_000_000 + at for at, word in enumerate(words)}
        self.prompts = InfillPrompts(self.vocabulary, self.encode, [START])

    def encode(self, text: str) -> list[int]:
        parts = re.split(f"({'|'.join(map(re.escape, self.vocabulary))})", text)
        return [id for part in parts for id in self._ids(part)]

    def _ids(self, part: str) -> list[int]:
        return [self.vocabulary[part]] if part in self.vocabulary else [ord(one) for one in part]

    def text(self, before: str, infill: Infill, room: int | None = None) -> str:
        """The prompt behind its beginning; words that are one token stand in dashes."""
        names = {id: f"–{word}–" for word, id in self.vocabulary.items()}
        start, *ids = self.prompts.prompt(before, infill, room).ids
        assert start == START
        return "".join(names.get(id) or chr(id) for id in ids)


def test_what_comes_before_and_after_stand_behind_their_tokens() -> None:
    text = Words(*QWEN[:3]).text("a = ", Infill("\nb", begun="f("))
    assert text == "–<|fim_prefix|>–a = –<|fim_suffix|>–\nb–<|fim_middle|>–f("


def test_without_a_token_for_the_middle_the_suffix_is_first() -> None:
    assert Words("[PREFIX]", "[SUFFIX]").text("a", Infill("b", "c")) == "–[SUFFIX]–b–[PREFIX]–ac"


def test_other_files_stand_before_it_as_a_repository() -> None:
    files = [InfillFile("x = 1", "x.py"), InfillFile("y = 2")]
    assert Words(*QWEN).text("a", Infill("b", files=files)) == (
        "–<|repo_name|>–myproject\n–<|file_sep|>–x.py\nx = 1–<|file_sep|>–tmp\ny = 2–<|file_sep|>–filename\n"
        "–<|fim_prefix|>–a–<|fim_suffix|>–b–<|fim_middle|>–"
    )
    assert Words(*QWEN[:3]).text("a", Infill("b", files=files[:1])) == (
        "\n\n--- snippet ---\n\nx = 1–<|fim_prefix|>–a–<|fim_suffix|>–b–<|fim_middle|>–"
    )


def test_words_of_these_tokens_in_the_code_are_text() -> None:
    words = Words(*QWEN)
    text = words.text("<|fim_middle|>", Infill("<|file_sep|>", "<|fim_prefix|>"))
    assert text == "–<|fim_prefix|>–<|fim_middle|>–<|fim_suffix|>–<|file_sep|>–<|fim_middle|>–<|fim_prefix|>"


def test_of_a_prompt_that_is_too_long_what_is_nearest_to_the_middle_stays() -> None:
    words, infill = Words(*QWEN[:3]), Infill("x" * 50 + "y", files=[InfillFile("z" * 10)])
    # Three quarters of what 4 tokens of structure leave are for what comes before.
    text = words.text("a" + "b" * 50, infill, room=24)
    assert text == f"–<|fim_prefix|>–{'b' * 15}–<|fim_suffix|>–{'x' * 5}–<|fim_middle|>–"
    assert words.prompts.prompt("a" + "b" * 50, infill, 24).cut == 51 + 51 + 10 + 19 - 20
    # What one side does not need is for the other, and files come last.
    assert (
        words.text("ab", infill, room=24) == f"–<|fim_prefix|>–ab–<|fim_suffix|>–{'x' * 18}–<|fim_middle|>–"
    )
    assert words.text("ab", Infill("c", files=infill.files), room=60).count("z") == 10


def test_a_model_without_such_tokens_says_so() -> None:
    with pytest.raises(BadRequest, match="suffix: this model has no tokens for filling in the middle"):
        Words("<|im_end|>").prompts.prompt("a", Infill("b"), None)
