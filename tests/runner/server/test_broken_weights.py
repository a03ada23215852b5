"""Weights whose numbers are none: what comes out of them is never passed off as an answer of numbers."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from tests.runner.live import events, in_process
from tests.toys import toy_text


def spoil(folder: Path, change: Callable[[str, mx.array], mx.array]) -> Path:
    """A copy of a toy with other weights."""
    copy = Path(shutil.copytree(toy_text("llama"), folder / "toy"))
    weights = mx.load(str(copy / "model.safetensors"))
    assert isinstance(weights, dict)
    spoilt = {name: change(name, value) for name, value in weights.items()}
    mx.eval(list(spoilt.values()))
    mx.save_safetensors(str(copy / "model.safetensors"), spoilt, {"format": "mlx"})
    return copy


def no_numbers(name: str, value: mx.array) -> mx.array:
    return value * float("nan") if "q_proj" in name else value


def test_a_vector_that_is_no_number_is_an_error_and_the_runner_lives(tmp_path: Path) -> None:
    async def ask() -> None:
        async with in_process(spoil(tmp_path, no_numbers)) as client:
            response = await client.post("/embedding", json={"content": "Why"})
            assert response.status_code == 500
            assert "NaN or infinite values" in response.json()["error"]
            assert (await client.get("/health")).status_code == 200

    asyncio.run(ask())


BODIES: list[dict[str, Any]] = [
    {},
    {"options": {"temperature": 1, "seed": 3}},
    {"options": {"temperature": 1, "top_p": 0.5, "repeat_penalty": 1.3, "frequency_penalty": 1}},
    {"logprobs": True, "top_logprobs": 3},
    {"format": "json"},
    {"options": {"num_predict": 1}},
]


@pytest.mark.parametrize("body", BODIES)
def test_a_text_of_no_numbers_is_an_error_before_its_first_word(tmp_path: Path, body: dict[str, Any]) -> None:
    async def ask() -> None:
        async with in_process(spoil(tmp_path, no_numbers)) as client:
            for _ in range(2):
                response = await client.post("/completion", json={"prompt": "Why", **body})
                assert response.status_code == 500
                assert "NaN or infinite logits" in response.json()["error"]
            status = (await client.get("/v1/status")).json()
            assert (status["active"], status["cache_entries"]) == (0, 0)

    asyncio.run(ask())


def test_one_that_comes_to_no_numbers_ends_alone(tmp_path: Path) -> None:
    """Whoever says the letter that is none; the others in the batch write on."""
    letter = 57  # Z

    def spoilt_letter(name: str, value: mx.array) -> mx.array:
        return value.at[letter].add(float("nan")) if "embed_tokens" in name else value

    async def ask() -> None:
        options = {"num_predict": 20, "logit_bias": {str(letter): -100}}
        async with in_process(spoil(tmp_path, spoilt_letter)) as client:
            streams = await asyncio.gather(
                *(
                    client.post("/completion", json={"prompt": prompt, "options": options})
                    for prompt in ("hello", "aZb", "well")
                )
            )
            assert [response.status_code for response in streams] == [200, 500, 200]
            alone = await client.post("/completion", json={"prompt": "hello", "options": options})
            assert [event.get("token") for event in events(streams[0])] == [
                event.get("token") for event in events(alone)
            ]

    asyncio.run(ask())
