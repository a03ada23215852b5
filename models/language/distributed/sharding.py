"""Which models can be spread over several devices, and the spreading: mlx-lm's own, refused where it would go wrong."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm import utils as mlx_utils

HEADS = ("num_attention_heads", "num_key_value_heads", "linear_num_key_heads", "linear_num_value_heads")
MOST = 64  # devices that are thought of


class NotShardable(ValueError):
    """The model cannot be spread so; the message says why, and what would be accepted."""


def check_shardable(name: str, config: Mapping[str, Any], ranks: int) -> None:
    """Refuse what is known to be impossible from config.json alone, before any process is started."""
    kind = config.get("model_type")
    try:
        architecture, _ = mlx_utils._get_classes(dict(config))
    except (ValueError, LookupError, TypeError) as error:
        raise NotShardable(f"{name}: {error}") from error
    if not hasattr(architecture, "shard"):
        raise NotShardable(
            f"{name}: mlx-lm cannot spread its architecture {kind!r} over several devices; "
            "it runs on one, without --tensor-parallel"
        )
    text = config.get("text_config")
    stated = {**config, **text} if isinstance(text, dict) else config
    for key in HEADS:
        heads = stated.get(key)
        if isinstance(heads, int) and heads % ranks:
            fits = [str(n) for n in range(1, min(heads, MOST) + 1) if _divides(n, stated)]
            raise NotShardable(
                f"{name}: its {heads} {key.replace('num_', '').replace('_', ' ')} cannot be spread evenly over "
                f"{ranks} devices; --tensor-parallel can be {', '.join(fits)}"
            )


def _divides(ranks: int, stated: Mapping[str, Any]) -> bool:
    return all(not isinstance(stated.get(key), int) or stated[key] % ranks == 0 for key in HEADS)


def shard(name: str, model: Any, group: mx.distributed.Group) -> nn.Module:
    """Leave this rank its share of the layers. The embedding and the head stay whole everywhere."""
    try:
        model.shard(group)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise NotShardable(f"{name} cannot be spread over {group.size()} devices: {error}") from error
    return model
