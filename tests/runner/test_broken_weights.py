"""Weights whose numbers are none: what comes out of them is never passed off as an answer of numbers."""

import asyncio
import shutil
from pathlib import Path

import mlx.core as mx

from tests.runner.live import in_process
from tests.toys import toy_text


def test_a_vector_that_is_no_number_is_an_error_and_the_runner_lives(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy_text("llama"), tmp_path / "toy"))
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    spoilt = {name: value * float("nan") if "q_proj" in name else value for name, value in weights.items()}
    mx.eval(list(spoilt.values()))
    mx.save_safetensors(str(folder / "model.safetensors"), spoilt, {"format": "mlx"})

    async def ask() -> None:
        async with in_process(folder) as client:
            response = await client.post("/embedding", json={"content": "Why"})
            assert response.status_code == 500
            assert "no number" in response.json()["error"]
            assert (await client.get("/health")).status_code == 200

    asyncio.run(ask())
