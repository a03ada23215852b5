"""Prompts of unequal lengths, side by side: every network writes what it would write alone."""

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache

from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence, TokenLogprob
from models.language.cache.padding import masks_padding, patch_batch_mask
from models.language.cache.prefix_cache import PrefixCache

COMMON = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
}
NETWORKS: dict[str, dict[str, Any]] = {
    # Its own attention, with an axis more than others'.
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16},
    # Recurrent layers that read padding: such prompts go in one by one.
    "mamba": {
        "state_size": 8,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
        "intermediate_size": 64,
    },
    # Recurrent layers that leave padding out, beside attention.
    "lfm2": {
        "norm_eps": 1e-6,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 64,
        "block_multiple_of": 32,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "max_position_embeddings": 256,
        "layer_types": ["conv", "full_attention"],
        "rope_theta": 10000.0,
    },
}


def network(family: str) -> nn.Module:
    module = importlib.import_module(f"mlx_lm.models.{family}")
    made: nn.Module = module.Model(
        module.ModelArgs.from_dict({**COMMON, "model_type": family, **NETWORKS[family]})
    )
    chance = np.random.default_rng(3)

    def noise(start: mx.array) -> mx.array:
        return start + mx.array(0.2 * chance.standard_normal(start.shape), dtype=mx.float32)

    made.update(tree_map(noise, made.parameters()))
    patch_batch_mask(made)
    return made


def logprobs(model: nn.Module, prompts: list[list[int]]) -> list[list[TokenLogprob]]:
    batch = Batch(model, COMMON["vocab_size"], lambda: make_prompt_cache(model), PrefixCache(0), 8)  # type: ignore[arg-type]
    rows = [Sequence(i, prompt, 6, logprobs=3) for i, prompt in enumerate(prompts)]
    actual: dict[Sequence, list[TokenLogprob]] = {row: [] for row in rows}
    for row in rows:
        batch.add(row)
    while batch.busy:
        for output in batch.step():
            assert output.logprob is not None, output.error
            actual[output.sequence].append(output.logprob)
    return list(actual.values())


@pytest.mark.parametrize("family", NETWORKS)
def test_prompts_of_unequal_lengths_together_are_what_each_is_alone(family: str) -> None:
    model = network(family)
    chance = np.random.default_rng(5)
    prompts = [[int(t) for t in chance.integers(0, 96, length)] for length in (2, 37, 5, 18)]
    together = logprobs(model, prompts)
    alone = [logprobs(model, [prompt])[0] for prompt in prompts]
    for a, b in zip(together, alone, strict=True):
        assert [[id for id, _ in actual.top] for actual in a] == [
            [id for id, _ in actual.top] for actual in b
        ]
        values = [[actual.logprob for actual in row] for row in (a, b)]
        assert values[0] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize(("family", "padded"), [("gemma2", True), ("mamba", False), ("lfm2", True)])
def test_only_networks_that_mask_padding_get_any(family: str, padded: bool) -> None:
    model = network(family)
    assert masks_padding(model, make_prompt_cache(model)) is padded
