"""How much of a model's context a request may use, and what is cut to fit."""

from typing import Any

import pytest

from models.language.batch.options import Drafting
from runner.engine.text.prompts import DEFAULT_MAX_TOKENS, Prompts
from runner.errors import BadRequest
from runner.protocol.text_rules import parse_text

END = 99


class Letters:
    """A tokenizer whose tokens are letters; embeddings end in a special one."""

    bos_token = None
    bos_token_id = None
    all_special_ids = (END,)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) - 97 for letter in text]


@pytest.fixture
def prompts() -> Prompts:
    letters = Letters()
    return Prompts(letters, 100, 20, (END,), lambda text, prompt: [*letters.encode(text), END])


def generate(prompts: Prompts, **options: Any) -> int:
    return prompts.generate(parse_text({"prompt": "abcdef", "options": options})).max_tokens


def test_an_answer_ends_where_the_context_or_its_share_of_it_does(prompts: Prompts) -> None:
    assert DEFAULT_MAX_TOKENS > 20
    assert generate(prompts) == generate(prompts, num_ctx=0) == generate(prompts, num_ctx=1000) == 14
    assert generate(prompts, num_ctx=10) == 4
    assert generate(prompts, num_ctx=10, num_predict=3) == 3


def test_a_prompt_that_fills_its_share_is_refused(prompts: Prompts) -> None:
    with pytest.raises(BadRequest, match="its 6 tokens do not fit into the context of 6 tokens"):
        generate(prompts, num_ctx=6)


@pytest.mark.parametrize(
    ("text", "context", "kept"),
    [("abcdef", None, [0, 1, 2, 3, 4, 5, END]), ("abcdef", 4, [0, 1, 2, END]), ("abcdef", 1, [END])],
)
def test_a_text_to_embed_keeps_its_beginning_and_its_end(
    prompts: Prompts, text: str, context: int | None, kept: list[int]
) -> None:
    assert prompts.embed([text], truncate=True, num_ctx=context).prompts == [kept]


def test_a_text_to_embed_is_cut_only_where_that_is_allowed(prompts: Prompts) -> None:
    assert len(prompts.embed(["a" * 50], truncate=True).prompts[0]) == 20
    with pytest.raises(BadRequest, match=r"content\[1\]: its 51 tokens do not fit into the context of 20"):
        prompts.embed(["a", "a" * 50])


# -- tokens that are drafted ahead


def drafting(default: Drafting, why_not: str = "", **fields: Any) -> tuple[Drafting, list[str]]:
    letters = Letters()
    prompts = Prompts(letters, 100, 20, (END,), letters.encode, drafting=default, why_no_drafts=why_not)
    work = prompts.generate(parse_text({"prompt": "abc", **fields}))
    return work.drafting, work.warnings


LOOKUP, MODEL, NONE = Drafting(16, lookup=True), Drafting(16, model=True), Drafting(16)


@pytest.mark.parametrize(
    ("default", "choice", "expected"),
    [
        (LOOKUP, None, LOOKUP),
        (NONE, None, NONE),
        (NONE, "lookup", LOOKUP),
        (MODEL, "lookup", LOOKUP),
        (NONE, 4, Drafting(4, lookup=True)),
        (MODEL, 4, Drafting(4, model=True)),
        (LOOKUP, "off", Drafting()),
        (MODEL, False, Drafting()),
        (LOOKUP, 0, Drafting()),
    ],
)
def test_a_request_says_how_it_is_drafted_or_its_runner_does(
    default: Drafting, choice: Any, expected: Drafting
) -> None:
    assert drafting(default, speculate=choice) == (expected, [])


def test_a_prediction_is_looked_up_unless_drafting_is_off() -> None:
    assert drafting(NONE, prediction="cab")[0] == Drafting(16, lookup=True, prediction=(2, 0, 1))
    assert drafting(NONE, prediction="cab", speculate="off")[0] == Drafting()


def test_where_nothing_can_be_drafted_the_answer_says_why() -> None:
    assert drafting(LOOKUP, "it is a hybrid") == (Drafting(), ["speculate is off: it is a hybrid"])
    assert drafting(NONE, "it is a hybrid") == (NONE, [])
    assert drafting(LOOKUP, "it is a hybrid", speculate="off") == (Drafting(), [])
