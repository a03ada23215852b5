"""A second model drafts: what it drafts is often accepted, and never changes the text."""

from typing import Any

import pytest

from models.language.batch.options import Drafting, Sampling
from models.language.batch.sequence import Sequence
from models.language.build import LoadError
from models.language.load import LanguageModel
from models.language.speculate.draft_model import CHUNK, DraftModel, check_tokenizer
from models.language.speculate.drafter import RowDrafter
from tests.models.language.batch.test_batch import prompt, toy
from tests.models.language.batch.test_speculation import Unmeasured, batch_for, outputs, texts

BY_MODEL = Drafting(6, model=True)
OPTIONS = [
    Sampling(),
    Sampling(temperature=1.0, seed=3),
    Sampling(temperature=0.8, repeat_penalty=1.3, seed=4),
]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return toy("qwen3")


def sequences(model: LanguageModel, count: int = 50) -> list[Sequence]:
    return [
        Sequence(at, prompt(model, at, 7 + 20 * at), count, sampling, drafting=BY_MODEL)
        for at, sampling in enumerate(OPTIONS)
    ]


def drafter(draft: LanguageModel, vocab: int, tokens: int = 2**12) -> RowDrafter:
    return RowDrafter(DraftModel(draft, vocab, tokens), Unmeasured())


def accepted(found: dict[Any, list[Any]]) -> int:
    return sum(output.accepted for items in found.values() for output in items)


def test_a_model_that_agrees_is_accepted_whether_greedy_sampled_or_penalized(model: LanguageModel) -> None:
    """The same model: it draws the same tokens, as its random numbers are the same."""
    expected = texts(outputs(batch_for(model), sequences(model)))
    rows = sequences(model)
    found = outputs(batch_for(model, drafter(toy("qwen3"), model.vocab)), rows)
    assert texts(found) == expected
    drafted = sum(row.drafted for row in rows)
    assert drafted > 60
    assert accepted(found) > 0.95 * drafted


def test_another_model_changes_nothing_however_often_it_is_wrong(model: LanguageModel) -> None:
    other = toy("llama", vocab_size=model.vocab, seed=5)
    expected = texts(outputs(batch_for(model), sequences(model)))
    rows = sequences(model)
    found = outputs(batch_for(model, drafter(other, model.vocab)), rows)
    assert texts(found) == expected
    assert sum(row.drafted for row in rows) > accepted(found)


def test_a_prompt_longer_than_a_call_is_read_over_several_steps(model: LanguageModel) -> None:
    def one() -> Sequence:
        return Sequence(0, prompt(model, 1, 2 * CHUNK + 50), 40, drafting=Drafting(4, model=True))

    expected = texts(outputs(batch_for(model), [one()]))
    row = one()
    assert texts(outputs(batch_for(model, drafter(toy("qwen3"), model.vocab)), [row])) == expected
    assert row.drafted


def test_without_memory_for_a_text_nothing_is_drafted_for_it(model: LanguageModel) -> None:
    rows = sequences(model)
    expected = texts(outputs(batch_for(model), sequences(model)))
    assert texts(outputs(batch_for(model, drafter(toy("qwen3"), model.vocab, 64)), rows)) == expected
    assert rows[2].drafted == 0


def test_the_memory_of_texts_that_have_ended_is_free_again(model: LanguageModel) -> None:
    drafting = DraftModel(toy("qwen3"), model.vocab, 2**12)
    batch = batch_for(model, RowDrafter(drafting, Unmeasured()))
    outputs(batch, sequences(model))
    assert drafting.held_tokens == 0


@pytest.mark.parametrize("width", [600, 680])
def test_logits_of_another_width_draw_the_same(model: LanguageModel, width: int) -> None:
    """Some checkpoints pad their vocabulary more than others of the family."""
    expected = texts(outputs(batch_for(model), sequences(model)))
    other = toy("qwen3", vocab_size=width)
    rows = sequences(model)
    assert texts(outputs(batch_for(model, drafter(other, model.vocab)), rows)) == expected
    assert all(row.drafted for row in rows)


def test_a_model_with_another_tokenizer_is_refused(model: LanguageModel) -> None:
    check_tokenizer(model, toy("qwen3", seed=9))
    with pytest.raises(
        LoadError, match=r"gemma3 cannot draft for qwen3, because their tokenizers differ: token \d+ is"
    ):
        check_tokenizer(model, toy("gemma3"))


def test_a_network_without_blocks_cannot_draft(model: LanguageModel) -> None:
    with pytest.raises(LoadError, match="lfm2 cannot draft: its keys and values cannot be kept in blocks"):
        DraftModel(toy("lfm2"), model.vocab, 1000)
