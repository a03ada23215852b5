"""A runner on a processor unpacks quantized weights where there is room, and its status says what it did."""

import asyncio
import logging

import pytest

from runner.engine import device
from runner.engine.text.worker import TextSettings
from tests.runner.live import complete, in_process, tokens
from tests.toys import toy_text

pytestmark = pytest.mark.skipif(device.has_gpu(), reason="a GPU multiplies packed weights well")


async def notes_and_tokens(room: int | None) -> tuple[list[str], list[int]]:
    """What a runner's status says of a quantized model, and what the model writes."""
    async with in_process(toy_text("llama", bits=4), TextSettings(float32=True, room=room)) as client:
        notes = (await client.get("/v1/status")).json()["notes"]
        return notes, tokens(await complete(client, "Once upon a time", num_predict=12))


def test_the_status_says_that_quantized_weights_are_unpacked() -> None:
    notes, written = asyncio.run(notes_and_tokens(None))
    assert [note for note in notes if "quantized layers are computed in float32" in note]
    assert len(written) == 12


def test_what_does_not_fit_is_a_warning_in_the_log_and_in_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        notes, written = asyncio.run(notes_and_tokens(1000))
    assert [note for note in notes if "quantized weights stay packed" in note]
    assert [record for record in caplog.records if "quantized weights stay packed" in record.getMessage()]
    assert len(written) == 12
