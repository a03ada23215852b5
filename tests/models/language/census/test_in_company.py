"""Types of each kind of cache, written side by side: every text begins as transformers would have it."""

from pathlib import Path
from typing import Any

import pytest

from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache

from .ropes import longrope

pytest.importorskip("torch")
pytestmark = pytest.mark.reference

# Keys and values, sliding windows, chunks, latents, states, mixtures of them, and rotations that depend on the text's
# length.
KINDS = (
    "llama",
    "gemma2",
    "gemma3_text",
    "deepseek_v3",
    "mistral",
    "mamba2",
    "falcon_h1",
    "qwen3_next",
    "phi3",
    "jamba",
    "kimi_linear",
    "llama4_text",
    "longcat_flash",
    "mimo_v2_flash",
    "minicpm3",
    "recurrent_gemma",
)
LENGTHS = (3, 19, 20, 21, 22, 33, 64)
CHANGES: dict[str, dict[str, Any]] = {"phi3": {"rope_parameters": dict(longrope(8, 21))}}


def prompt(length: int) -> list[int]:
    return [(53 * i + 7 * length) % 240 + 5 for i in range(length)]


@pytest.mark.parametrize("model_type", KINDS)
def test_first_tokens_in_company_are_transformers_own(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.models.cache import make_prompt_cache

    from models.language.batch import prefill
    from models.language.build import build

    from .checkpoints import configuration, logits, write_checkpoint
    from .outcome import local

    reference = write_checkpoint(
        configuration(model_type, tied=False, **CHANGES.get(model_type, {})), tmp_path
    )
    model, _ = build(local(tmp_path))
    monkeypatch.setattr(prefill, "SMALLEST", 16)  # the longest prompts are read in pieces
    monkeypatch.setattr(prefill, "LARGEST", 64)
    prefix = PrefixCache(10**8)
    batch = Batch(model, reference.config.vocab_size, lambda: make_prompt_cache(model), prefix, 16)
    rows = [Sequence(length, prompt(length), 1) for length in LENGTHS]
    again = [Sequence(length, [*prompt(length), 9], 1) for length in LENGTHS]  # from what the first have left
    for texts in (rows, again):
        tokens = written(batch, texts)
        expected = [int(logits(reference, row.prompt)[-1].argmax()) for row in texts]
        assert tokens == expected
    assert any(row.cached for row in again) or model_type in ("mamba2", "falcon_h1", "qwen3_next")


def written(batch: Batch, rows: list[Sequence]) -> list[int]:
    for row in rows:
        batch.add(row)
    tokens = {}
    while batch.busy:
        for output in batch.step():
            assert output.error is None
            if output.token is not None:
                tokens[output.sequence.id] = output.token
    return [tokens[row.id] for row in rows]
