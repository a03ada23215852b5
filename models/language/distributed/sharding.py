"""Shards a model over several devices by mlx-lm's own method, and refuses models for which that would go wrong."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm import utils as mlx_utils

HEADS = ("num_attention_heads", "num_key_value_heads", "linear_num_key_heads", "linear_num_value_heads")
MAX_DEVICES = 64  # the largest number that messages suggest


class NotShardable(ValueError):
    """The model cannot be sharded this way; the message says why, and what is possible."""


def check_shardable(name: str, config: Mapping[str, Any], ranks: int) -> None:
    """Refuse what config.json alone shows to be impossible, before any process is started."""
    kind = config.get("model_type")
    try:
        architecture, _ = mlx_utils._get_classes(dict(config))
    except (ValueError, LookupError, TypeError) as error:
        raise NotShardable(f"{name}: {error}") from error
    if not hasattr(architecture, "shard"):
        raise NotShardable(
            f"{name}: mlx-lm cannot shard the architecture {kind!r} over several devices; "
            "run it on one, without --tensor-parallel"
        )
    text = config.get("text_config")
    merged = {**config, **text} if isinstance(text, dict) else config
    for key in HEADS:
        heads = merged.get(key)
        if isinstance(heads, int) and heads % ranks:
            possible = [str(n) for n in range(1, min(heads, MAX_DEVICES) + 1) if _divides(n, merged)]
            raise NotShardable(
                f"{name}: its {heads} {key.replace('num_', '').replace('_', ' ')} cannot be divided evenly among "
                f"{ranks} devices; --tensor-parallel can be {', '.join(possible)}"
            )


def _divides(ranks: int, config: Mapping[str, Any]) -> bool:
    return all(not isinstance(config.get(key), int) or config[key] % ranks == 0 for key in HEADS)


def shard(name: str, model: Any, group: mx.distributed.Group) -> nn.Module:
    """Keep only this rank's share of the layers. The embedding and the head stay whole on every rank."""
    try:
        model.shard(group)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise NotShardable(f"{name} cannot be sharded over {group.size()} devices: {error}") from error
    return model
