"""config.json shows what can be sharded, and a sharded decoder gives the results of the whole one."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from models.language.distributed.sharding import NotShardable, check_shardable
from runner.distributed.launch import World
from tests.toys import toy_text
from tests.waiting import PATIENCE


def config(family: str, **other: Any) -> dict[str, Any]:
    return {**json.loads((toy_text(family) / "config.json").read_text()), **other}


def test_heads_that_divide_evenly_can_be_spread() -> None:
    check_shardable("toy", config("qwen3"), 2)
    check_shardable("toy", config("llama"), 2)
    check_shardable("toy", config("mistral"), 2)
    check_shardable("toy", config("glm4_moe_lite"), 4)


@pytest.mark.parametrize(
    ("heads", "groups", "ranks", "message"),
    [
        (
            4,
            2,
            3,
            "its 4 attention heads cannot be divided evenly among 3 devices; --tensor-parallel can be 1, 2$",
        ),
        (32, 8, 16, "its 8 key value heads cannot .* among 16 devices; --tensor-parallel can be 1, 2, 4, 8$"),
        (14, 2, 4, "its 14 attention heads .* can be 1, 2$"),
        (5, 1, 2, "can be 1$"),
    ],
)
def test_heads_that_do_not_are_refused_with_what_would_do(
    heads: int, groups: int, ranks: int, message: str
) -> None:
    unsuitable = config("qwen3", num_attention_heads=heads, num_key_value_heads=groups)
    with pytest.raises(NotShardable, match=message):
        check_shardable("toy", unsuitable, ranks)


@pytest.mark.parametrize("family", ["gemma3", "lfm2", "qwen3_next"])
def test_an_architecture_that_cannot_be_spread_is_named(family: str) -> None:
    unsuitable = config(family)
    with pytest.raises(NotShardable, match=f"cannot shard the architecture '{unsuitable['model_type']}'"):
        check_shardable("toy", unsuitable, 2)


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(NotShardable, match="unheard_of"):
        check_shardable("toy", {"model_type": "unheard_of"}, 2)


@pytest.mark.parametrize(
    ("name", "bits"), [("qwen3", 0), ("qwen3", 4), ("qwen2, with biases", 8)], ids=["plain", "4", "8"]
)
def test_a_decoder_of_two_shares_gives_what_the_whole_network_gives(name: str, bits: int) -> None:
    with World(2) as world:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.models.language.distributed.spread_decoder", name, str(bits)],
                env={**os.environ, **world.environment(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        for rank in ranks:
            out, err = rank.communicate(timeout=PATIENCE)
            assert rank.returncode == 0, err
            worst, taken = out.split()
            assert float(worst) < 1e-5
            assert taken == "False", "one of them could not"
