"""Greedy text equals mlx-lm's own, token for token; seeded text is the same alone and in company."""

import asyncio
import functools
from pathlib import Path

import mlx_lm
import pytest

from runner.engine.text.worker import TextSettings
from tests.runner.live import complete, in_process, text, tokens
from tests.toys import FAMILIES, toy_text

LENGTH = 24
PROMPTS = (
    "Why",
    "The harbour wakes before the town does.",
    "Der Morgen ist kühl, die Straße leer",
    "海は静かで 🫖🌧️ é́",
    '{"name": "harbour", "boats": 17, "open": true}',
    # Longer than a sliding window, and than what is prefilled in one go beside others.
    "She counted boats and gulls and ropes, and then she counted them again. " * 6,
    "One, two, three, four, five, six, seven. " * 20,
    "x",
)
# One of each kind of cache; the rest in the whole run.
KINDS = [
    family
    if family in ("qwen3", "gemma3", "lfm2", "qwen3_next")
    else pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
]


@functools.cache
def expected(folder: Path) -> list[list[int]]:
    """What mlx-lm writes for each prompt."""
    model, tokenizer = mlx_lm.load(str(folder))
    return [
        [answer.token for answer in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=LENGTH)]
        for prompt in PROMPTS
    ]


@pytest.mark.parametrize("bits", [None, 4, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_is_that_of_mlx_lm_alone_and_in_company(family: str, bits: int | None) -> None:
    folder = toy_text(family, bits=bits)

    async def run() -> None:
        async with in_process(folder, TextSettings(cache_bytes=0)) as client:
            together = await asyncio.gather(
                *(complete(client, prompt, num_predict=LENGTH) for prompt in PROMPTS)
            )
            assert [tokens(answer) for answer in together] == expected(folder)
            alone = [tokens(await complete(client, prompt, num_predict=LENGTH)) for prompt in PROMPTS]
            assert alone == expected(folder)

    asyncio.run(run())


@pytest.mark.parametrize("family", KINDS)
def test_what_comes_out_of_the_prefix_cache_goes_on_alike(family: str) -> None:
    folder = toy_text(family)

    async def run() -> None:
        async with in_process(folder) as client:
            for prompt, reference in zip(PROMPTS, expected(folder), strict=True):
                for _ in range(2):
                    stream = await complete(client, prompt, num_predict=LENGTH)
                    assert tokens(stream) == reference
                # The answer's own cache goes on from where it ended.
                longer = await complete(client, prompt + text(stream), num_predict=4)
                assert len(tokens(longer)) == 4
            together = await asyncio.gather(
                *(complete(client, prompt, num_predict=LENGTH) for prompt in PROMPTS)
            )
            assert [tokens(stream) for stream in together] == expected(folder)

    asyncio.run(run())


@pytest.mark.parametrize("family", KINDS)
def test_prompts_that_begin_alike_share_their_beginning_and_differ_after_it(family: str) -> None:
    folder = toy_text(family)
    beginning = "She counted boats and gulls and ropes, and then she counted them again. " * 8
    prompts = [f"{beginning}Number {number} was" for number in range(4)]

    async def run(settings: TextSettings) -> list[list[int]]:
        async with in_process(folder, settings) as client:
            return [tokens(await complete(client, prompt, num_predict=20)) for prompt in prompts]

    assert asyncio.run(run(TextSettings())) == asyncio.run(run(TextSettings(cache_bytes=0)))


@pytest.mark.parametrize("family", KINDS)
def test_a_seed_writes_the_same_text_alone_and_in_company(family: str) -> None:
    folder = toy_text(family)
    options = {"num_predict": LENGTH, "temperature": 0.9, "top_p": 0.95, "seed": 11}

    async def run() -> None:
        async with in_process(folder, TextSettings(cache_bytes=0)) as client:
            alone = tokens(await complete(client, PROMPTS[1], **options))
            others = (
                complete(client, prompt, **{**options, "seed": number + 100})
                for number, prompt in enumerate(PROMPTS[2:])
            )
            in_company, *_ = await asyncio.gather(complete(client, PROMPTS[1], **options), *others)
            assert tokens(in_company) == alone
            again = await complete(client, PROMPTS[1], **{**options, "seed": 12})
            assert tokens(again) != alone, "another seed wrote the same"

    asyncio.run(run())


def test_who_joins_late_and_who_leaves_early_change_nothing_for_the_others() -> None:
    folder = toy_text("qwen3")

    async def run() -> None:
        async with in_process(folder, TextSettings(cache_bytes=0)) as client:

            async def late(number: int) -> list[int]:
                await asyncio.sleep(0.01 * number)
                # Each ends after another number of tokens, so that rows leave one by one.
                streams = await complete(client, PROMPTS[number], num_predict=LENGTH - 2 * number)
                return tokens(streams)

            streams = await asyncio.gather(*(late(number) for number in range(len(PROMPTS))))
            reference = [row[: LENGTH - 2 * number] for number, row in enumerate(expected(folder))]
            assert streams == reference

    asyncio.run(run())
