"""Prompts: as long as they should be, new in each round, and the same in each run."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from runner.bench.cases import Case
from runner.bench.prompts import Prompts
from runner.errors import BadRequest
from tests.toys import toy_text


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(toy_text(), seed=7)


def tokens(texts: list[str]) -> list[int]:
    tokenizer = Tokenizer.from_file(str(toy_text() / "tokenizer.json"))
    return [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]


def test_every_request_of_a_range_has_another_length(prompts: Prompts) -> None:
    lengths = tokens(prompts.of(Case(16, (30, 300)), 0))
    assert all(29 <= length <= 301 for length in lengths)
    assert len({length // 2 for length in lengths}) > 8  # a cut may make a token more or less


def test_a_number_of_tokens_is_kept(prompts: Prompts) -> None:
    assert all(abs(length - 200) <= 1 for length in tokens(prompts.of(Case(4, (200, 200)), 0)))


def test_more_requests_than_lengths_share_them(prompts: Prompts) -> None:
    assert len(prompts.of(Case(9, (30, 33)), 0)) == 9


def test_prompts_are_new_in_each_round_and_series_and_the_same_in_each_run(prompts: Prompts) -> None:
    case = Case(8, (30, 300))
    texts = [text for number in range(3) for series in (0, 1) for text in prompts.of(case, number, series)]
    assert len({text[:6] for text in texts}) == len(texts)
    assert Prompts(toy_text(), seed=7).of(case, 1) == prompts.of(case, 1)
    assert Prompts(toy_text(), seed=8).of(case, 1) != prompts.of(case, 1)


def test_a_share_of_the_prompts_is_long(prompts: Prompts) -> None:
    lengths = tokens(prompts.of(Case(9, (30, 60), long=500, long_share=0.33), 0))
    assert sum(length > 400 for length in lengths) == 3


def test_one_long_prompt_comes_beside_the_others(prompts: Prompts) -> None:
    case = Case(4, long=500)
    assert len(prompts.of(case, 0)) == 3
    assert abs(tokens([prompts.late(case, 0)])[0] - 500) <= 1


def test_files_to_edit_differ_from_their_first_line_on(prompts: Prompts) -> None:
    texts = prompts.of(Case(4, edit=True), 0) + prompts.of(Case(4, edit=True), 0, series=1)
    assert len({text.splitlines()[0] for text in texts}) == len(texts)
    assert all("```python" in text and "total" in text for text in texts)


def test_a_model_without_a_tokenizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="need the model's tokenizer"):
        Prompts(tmp_path, 0).of(Case(1, (30, 300)), 0)
