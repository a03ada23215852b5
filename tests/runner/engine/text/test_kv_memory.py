"""A runner's memory for texts is bounded: what does not fit waits, and what never fits is refused with both numbers."""

import asyncio

import pytest

from models.files import LocalModel, Shard
from models.language.load import LanguageModel, load
from runner.engine.text.kv_memory import LEAST, kv_memory
from runner.engine.text.worker import TextSettings
from runner.errors import BadRequest
from tests.runner.live import complete, in_process, tokens
from tests.toys import toy_text


def toy(family: str = "llama", kv_bits: int | None = None) -> LanguageModel:
    folder = toy_text(family)
    shard = Shard(folder / "model.safetensors")
    return load(LocalModel(family, folder, lambda component: (shard,)), kv_bits=kv_bits)


def test_texts_that_do_not_fit_together_are_written_in_turn() -> None:
    folder = toy_text("llama")
    size = 600 * toy().bytes_per_token()
    prompt = "One, two, three, four, five, six, seven. " * 12

    async def run(settings: TextSettings) -> tuple[list[list[int]], dict[str, int]]:
        async with in_process(folder, settings) as client:
            answers = await asyncio.gather(*(complete(client, prompt, num_predict=150) for _ in range(4)))
            status = (await client.get("/v1/status")).json()
            return [tokens(answer) for answer in answers], status

    bounded, status = asyncio.run(run(TextSettings(cache_bytes=0, kv_memory=size)))
    free, wide = asyncio.run(run(TextSettings(cache_bytes=0)))
    assert bounded == free
    assert status["kv_limit"] == 600
    assert wide["kv_limit"] >= LEAST
    assert wide["preemptions"] == 0


def test_a_text_that_never_fits_is_a_400_with_both_numbers() -> None:
    folder = toy_text("llama")
    size = 600 * toy().bytes_per_token()

    async def run() -> None:
        async with in_process(folder, TextSettings(kv_memory=size)) as client:
            response = await client.post("/completion", json={"prompt": "harbour " * 800})
            assert response.status_code == 400
            message = response.json()["error"]
            assert "511 tokens" in message
            assert "the model has 4096, and --kv-memory is" in message
            assert (await client.get("/v1/status")).json()["ContextLength"] == 511
            assert tokens(await complete(client, "harbour", num_predict=3))

    asyncio.run(run())


def test_too_little_memory_for_any_text_is_refused_at_load() -> None:
    with pytest.raises(
        BadRequest, match=r"--kv-memory: 1 kB holds \d+ tokens of this model; at least .* is needed"
    ):
        kv_memory(toy(), 1000, 0, None)


def test_by_default_it_is_what_is_left_and_never_too_little() -> None:
    model = toy()
    assert kv_memory(model, None, 0, None).context == model.context
    scarce = kv_memory(model, None, 0, 1)
    assert scarce.tokens == LEAST
    assert "--kv-memory" in scarce.why_shorter


def test_on_a_small_machine_other_uses_leave_half_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.text.kv_memory.memory_left", lambda: 3 * 10**9)
    assert kv_memory(toy(), None, 10**9, None).bytes == 1_350_000_000
    assert kv_memory(toy(), None, 0, None).bytes == 2_025_000_000


def test_quantized_keys_and_values_take_less() -> None:
    assert toy(kv_bits=4).bytes_per_token() < toy().bytes_per_token() / 2
