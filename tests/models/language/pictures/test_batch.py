"""Prompts with pictures in the batch: each answer is what the networks compute from the whole text at once."""

from collections.abc import Sequence as Items

import numpy as np
import pytest
from PIL import Image

from models.files import LocalModel, Shard
from models.language.batch.batch import Batch
from models.language.batch.options import Drafting, Sampling
from models.language.batch.sequence import Output, Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.load import LanguageModel, load
from models.language.pictures.prompt import MisplacedPictures, with_pictures
from models.language.speculate.drafter import RowDrafter
from models.vision.interface import SeenPicture
from tests.models.language.pictures.stand_in import PLACEHOLDER, StandIn, TextNetwork, greedy
from tests.toys import toy_text

COUNT = 6  # tokens of an answer


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    folder = toy_text("qwen3")
    shard = Shard(folder / "model.safetensors")
    loaded = load(LocalModel("toy", folder, lambda component: (shard,)))
    loaded.model = TextNetwork(loaded.model)
    return loaded


@pytest.fixture(params=["at one place", "two-way"])
def vision(request: pytest.FixtureRequest, model: LanguageModel) -> StandIn:
    return StandIn(64, two_way=request.param == "two-way", at_one_place=request.param == "at one place")


def picture(vision: StandIn, seed: int, width: int = 24, height: int = 16) -> SeenPicture:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return vision.look(Image.fromarray(pixels))


def words(seed: int, count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(20, 600, count)]


def text(pictures: Items[SeenPicture], seed: int = 1, between: int = 11) -> list[int]:
    tokens = words(seed, between)
    for at, one in enumerate(pictures):
        tokens += [PLACEHOLDER] * one.tokens + words(seed + at + 1, between)
    return tokens


def sequence(vision: StandIn, tokens: list[int], pictures: Items[SeenPicture], **fields: object) -> Sequence:
    prompt, seen = with_pictures(tokens, pictures, vision)
    return Sequence(object(), prompt, COUNT, pictures=seen if pictures else None, **fields)  # type: ignore[arg-type]


def batch_for(
    model: LanguageModel,
    vision: StandIn,
    cache_bytes: int = 2**30,
    capacity: int | None = None,
    **more: object,
) -> Batch:
    prefix = PrefixCache(cache_bytes)
    return Batch(
        model.model, model.vocab, model.new_cache, prefix, 16, capacity=capacity, vision=vision, **more
    )  # type: ignore[arg-type]


def written(batch: Batch, rows: list[Sequence]) -> list[list[int]]:
    outputs: dict[Sequence, list[Output]] = {row: [] for row in rows}
    for row in rows:
        batch.add(row)
    for _ in range(500):
        for output in batch.step():
            assert output.error is None, output.error
            outputs[output.sequence].append(output)
        if not batch.busy:
            break
    return [[output.token for output in each if output.token is not None] for each in outputs.values()]


def test_answers_are_those_of_the_whole_text_alone_and_in_company(
    model: LanguageModel, vision: StandIn
) -> None:
    one, other = picture(vision, 1), picture(vision, 2, 40, 32)
    cases: list[tuple[list[int], list[SeenPicture]]] = [
        (text([one]), [one]),
        (text([one, other], 5), [one, other]),
        (words(9, 40), []),
        (text([other], 7), [other]),
    ]
    expected = [greedy(model, vision, tokens, pictures, COUNT) for tokens, pictures in cases]
    for case, answer in zip(cases, expected, strict=True):
        assert written(batch_for(model, vision), [sequence(vision, *case)]) == [answer]
    assert written(batch_for(model, vision), [sequence(vision, *case) for case in cases]) == expected


def test_pictures_behind_the_same_placeholders_never_collide_and_the_same_one_is_a_hit(
    model: LanguageModel, vision: StandIn
) -> None:
    one, other = picture(vision, 1, 48, 48), picture(vision, 2, 48, 48)
    batch = batch_for(model, vision)
    tokens = text([one])
    first = sequence(vision, tokens, [one])
    expected = written(batch, [first])
    assert first.cached == 0
    assert vision.looks == 1
    second = sequence(vision, tokens, [other])
    assert written(batch, [second]) == [greedy(model, vision, tokens, [other], COUNT)] != expected
    assert second.cached <= tokens.index(PLACEHOLDER)
    again, looks = sequence(vision, tokens, [one]), vision.looks
    assert written(batch, [again]) == expected
    assert again.cached > tokens.index(PLACEHOLDER) + one.tokens - 1
    assert vision.looks == looks


def test_a_beginning_that_ends_within_a_picture_is_continued(model: LanguageModel, vision: StandIn) -> None:
    one = picture(vision, 1, 48, 48)
    tokens = text([one])
    expected = [greedy(model, vision, tokens, [one], COUNT)]
    block = batch_for(model, vision).network
    assert block is not None
    batch = batch_for(model, vision, 2 * block.pool.bytes_per_block)
    assert written(batch, [sequence(vision, tokens, [one])]) == expected
    again = sequence(vision, tokens, [one])
    assert written(batch, [again]) == expected
    assert tokens.index(PLACEHOLDER) < again.cached < tokens.index(PLACEHOLDER) + one.tokens


def test_long_prompts_are_read_in_chunks_and_resumed_after_preemption(
    model: LanguageModel, vision: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.language.batch.paged_prefill.PrefillBudget.tokens", lambda self, busy: 40)
    pictures = [picture(vision, seed, 40, 40) for seed in range(2)]
    cases = [(text(pictures[: count + 1], count), pictures[: count + 1]) for count in range(2)]
    expected = [greedy(model, vision, *case, COUNT) for case in cases]
    batch = batch_for(model, vision, capacity=512)
    assert written(batch, [sequence(vision, *case) for case in cases]) == expected


def test_rows_that_gave_their_memory_back_are_read_again_with_their_pictures(
    model: LanguageModel, vision: StandIn
) -> None:
    pictures = [picture(vision, seed, 24, 16) for seed in range(3)]
    cases = [(text([one], seed, 19), [one]) for seed, one in enumerate(pictures)]
    expected = [greedy(model, vision, *case, COUNT) for case in cases]
    batch = batch_for(model, vision, 0, capacity=8 * 32)
    assert written(batch, [sequence(vision, *case) for case in cases]) == expected
    assert batch.preemptions


def test_penalties_seeds_and_log_probabilities_take_pictures_for_no_words(
    model: LanguageModel, vision: StandIn
) -> None:
    one = picture(vision, 1)
    tokens = text([one])
    options = Sampling(
        temperature=0.9, top_p=0.9, repeat_penalty=1.3, presence_penalty=0.5, repeat_last_n=-1, seed=4
    )
    alone = written(batch_for(model, vision), [sequence(vision, tokens, [one], sampling=options, logprobs=3)])
    company = [
        sequence(vision, tokens, [one], sampling=options, logprobs=3),
        sequence(vision, words(3, 50), [], sampling=options),
    ]
    assert written(batch_for(model, vision), company)[0] == alone[0]


def test_drafts_looked_up_in_the_text_change_no_answer(model: LanguageModel, vision: StandIn) -> None:
    one = picture(vision, 1)
    repeated = words(2, 12)
    tokens = [*repeated, *[PLACEHOLDER] * one.tokens, *repeated, *repeated[:6]]
    expected = greedy(model, vision, tokens, [one], COUNT)
    prediction = (*repeated, *expected)
    drafting = Drafting(4, lookup=True, prediction=prediction)
    row = sequence(vision, tokens, [one], drafting=drafting)
    assert written(batch_for(model, vision, drafter=RowDrafter()), [row]) == [expected]
    assert row.drafted


def test_placeholders_and_rows_must_match(model: LanguageModel, vision: StandIn) -> None:
    one = picture(vision, 1)
    with pytest.raises(
        MisplacedPictures, match=r"25 places for rows of pictures, and the pictures have 24 rows"
    ):
        with_pictures([5, *[PLACEHOLDER] * 25, 6], [one], vision)
    with pytest.raises(MisplacedPictures, match="some text must follow"):
        with_pictures([5, *[PLACEHOLDER] * 24], [one], vision)
