"""The matrices of a GGUF's LoRA under the names of the network, with the rows of queries and keys where it has them."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from models.adapters.adapter_file import DOWN, UP
from models.checkpoint.gguf.shard import Edit, GGUFShard
from models.checkpoint.weights import read_shards
from models.language.gguf.adapter import GGUFAdapter
from models.language.gguf.metadata import GGUFError

ROLES = {"a": DOWN, "b": UP}


def read_gguf_groups(adapter: GGUFAdapter, config: Mapping[str, Any]) -> dict[str, dict[str, mx.array]]:
    """`config`: of the model that it is for."""
    label = adapter.path.name[:80]
    kind = str(config.get("model_type"))
    if kind != adapter.architecture.model_type:
        raise GGUFError(
            f"the adapter {label} is for {adapter.architecture.model_type}, and the model is {kind}"
        )
    edits = _edits(adapter, config)
    keys = {key: key for pair in adapter.pairs.values() for key in pair.values()}
    tensors = read_shards(label, (GGUFShard(adapter.path, keys, edits, "float16"),), "unpacked")
    finite = {key: mx.all(mx.isfinite(tensor)) for key, tensor in tensors.items()}
    mx.eval(finite)
    broken = [key for key, good in finite.items() if not good.item()]
    if broken:
        raise GGUFError(f"the adapter {label} has NaN or infinity in {', '.join(broken[:4])[:300]}")
    names = adapter.names()
    return {
        names[weight]: {ROLES[letter]: tensors[key] for letter, key in pair.items()}
        for weight, pair in adapter.pairs.items()
    }


def _edits(adapter: GGUFAdapter, config: Mapping[str, Any]) -> dict[str, Edit]:
    """Where the model's rows of queries and keys lie in pairs, so do those of what is added to them."""
    if not adapter.architecture.pairs:
        return {}
    heads = config["num_attention_heads"]
    rows = {"attn_q": heads, "attn_k": config.get("num_key_value_heads") or heads}
    edits = {}
    for weight, pair in adapter.pairs.items():
        layer = weight.split(".")[-2]
        if layer not in rows:
            continue
        shape = adapter.header.tensors[pair["b"]].shape
        if shape[0] % (2 * rows[layer]):
            raise GGUFError(
                f"the adapter {adapter.path.name[:80]}: {pair['b']} has {shape[0]} rows for {rows[layer]} heads"
            )
        edits[pair["b"]] = Edit("pairs", rows[layer])
    return edits
