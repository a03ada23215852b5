"""Thoughts that are closed when their tokens are used up: token by token, and in an answer of a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.engine.text.thinking_budget import BudgetedGrammar, ThinkingBudget, ThinkingTokens
from tests.runner.gateway.live import Gateway
from tests.saying import make_saying_model

VOCAB = 70  # no whole number of words
TOKENS = ThinkingTokens(starts=(60,), ends=(61,), closing=(3, 61, 4))


def allowed(position: ThinkingBudget) -> list[int]:
    bits = np.unpackbits(position.mask().view(np.uint8), bitorder="little")
    return [int(token) for token in np.flatnonzero(bits)]


def begun(budget: int, *written: int, thinking: bool = True) -> ThinkingBudget:
    position = BudgetedGrammar(TOKENS, budget, thinking, VOCAB).matcher()
    for token in written:
        position.accept(token)
    return position


def test_everything_is_allowed_until_the_budget_is_used() -> None:
    assert allowed(begun(3, 1, 2)) == list(range(VOCAB))
    assert allowed(begun(3, 1, 2, 5)) == [3]
    assert allowed(begun(3, 1, 2, 5, 3)) == [61]
    assert allowed(begun(3, 1, 2, 5, 3, 61)) == [4]
    assert len(allowed(begun(3, 1, 2, 5, 3, 61, 4))) == VOCAB
    assert len(allowed(begun(3, 1, 2, 5, 3, 61, 4, *range(5, 30)))) == VOCAB


def test_a_thought_that_ends_by_itself_is_left_alone() -> None:
    assert len(allowed(begun(3, 1, 61, *range(5, 30)))) == VOCAB


def test_thoughts_count_from_their_beginning_and_all_together() -> None:
    assert len(allowed(begun(2, *range(5, 30), thinking=False))) == VOCAB
    assert allowed(begun(2, 5, 60, 6, 7, thinking=False)) == [3]
    # The second thought has nothing left: the end of the first was a token of it.
    assert allowed(begun(2, 60, 6, 61, 9, 60, thinking=False)) == [3]
    assert allowed(begun(0)) == [3]


def test_drafts_are_taken_back() -> None:
    position = begun(3, 1, 2)
    for token in (5, 3, 61, 4, 9):
        position.accept(token)
    position.rewind(5)
    assert len(allowed(position)) == VOCAB
    position.accept(5)
    assert allowed(position) == [3]
    position.rewind(0)
    assert allowed(position) == [3]


class Only:
    """An answer that is held to one token."""

    finished = True

    def __init__(self, token: int) -> None:
        self.token, self.accepted = token, list[int]()

    def mask(self) -> Any:
        mask = np.zeros(3, dtype=np.uint32)
        mask[self.token // 32] = np.uint32(1 << self.token % 32)
        return mask

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def rewind(self, tokens: int) -> None:
        del self.accepted[len(self.accepted) - tokens :]


def test_what_else_holds_for_the_answer_wins() -> None:
    for token, due in ((3, [3]), (40, [40])):
        only = Only(token)
        position = ThinkingBudget(BudgetedGrammar(TOKENS, 0, True, VOCAB), only)
        assert (allowed(position), position.finished) == (due, True)
        position.accept(token)
        assert only.accepted == [token]
        position.rewind(1)
        assert only.accepted == []


@pytest.mark.parametrize("draft", [{}, {"speculate": "lookup"}])
def test_the_answer_goes_on_behind_a_thought_that_was_closed(tmp_path: Path, draft: dict[str, Any]) -> None:
    pieces = ("<think>", "One, ", "two, ", "three.", "</think>", "\n\n", "The sea.")
    folder = make_saying_model(tmp_path / "thinker", *pieces)
    with Gateway({"thinker": folder}, pretend=False, memory=64 * 1024**3, force=True) as gateway:

        def said(path: str, body: dict[str, Any]) -> Any:
            response = gateway.http.post(path, json={"model": "thinker", "messages": MESSAGES, **body})
            return response.raise_for_status().json()

        for name in ("thinking_budget", "thinking_token_budget"):
            message = said("/v1/chat/completions", {name: 2, **draft})["choices"][0]["message"]
            assert (message["reasoning_content"], message["content"]) == ("One, two, ", "The sea.")
        whole = said("/v1/chat/completions", draft)["choices"][0]["message"]
        assert (whole["reasoning_content"], whole["content"]) == ("One, two, three.", "The sea.")
        thinking = {"type": "enabled", "budget_tokens": 1024}
        answer = said("/v1/messages", {"max_tokens": 2000, "thinking": thinking, "temperature": 0})
        assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
        assert "warnings" not in answer
        response = said("/v1/responses", {"messages": None, "input": "The sea?", "thinking_budget": 1})
        assert json.dumps("One, ")[1:-1] in json.dumps(response["output"])
        assert "two" not in json.dumps(response["output"])


MESSAGES = [{"role": "user", "content": "What is it?"}]
