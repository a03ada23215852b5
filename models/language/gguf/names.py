"""The tensors of a GGUF under the names of the network, and what a conversion did to them."""

import re
from collections.abc import Iterable

from models.checkpoint.gguf.shard import Edit
from models.language.gguf.architectures import Architecture
from models.language.gguf.metadata import Metadata

# Factors of rotary embeddings, which become part of config.json.
FACTORS = {
    "rope_freqs.weight": "all",
    "rope_factors_short.weight": "short",
    "rope_factors_long.weight": "long",
}
_IN_BLOCK = re.compile(r"blk\.(\d{1,6})\.([a-z0-9_]+)\.(weight|bias)")


def network_names(tensors: Iterable[str], architecture: Architecture, metadata: Metadata) -> dict[str, str]:
    """The network's name of each tensor; an error names those that the architecture does not have."""
    names = {key: network_name(key, architecture) for key in tensors if key not in FACTORS}
    unknown = sorted(key for key, name in names.items() if name is None)
    if unknown:
        shown = ", ".join(key[:80] for key in unknown[:6])
        more = f" and {len(unknown) - 6} more" if len(unknown) > 6 else ""
        raise metadata.refused(
            f"it has tensors that a {architecture.model_type} network does not have: {shown}{more}"
        )
    return {key: name for key, name in names.items() if name is not None}


def network_name(key: str, architecture: Architecture) -> str | None:
    outside, _, kind = key.rpartition(".")
    if outside in architecture.outside and kind in ("weight", "bias"):
        return f"{architecture.outside[outside]}.{kind}"
    block = _IN_BLOCK.fullmatch(key)
    if block is None or block[2] not in architecture.layers:
        return None
    return f"{architecture.blocks}.{int(block[1])}.{architecture.layers[block[2]]}.{block[3]}"


def edits(tensors: Iterable[str], architecture: Architecture, metadata: Metadata) -> dict[str, Edit]:
    heads = metadata.count("attention.head_count")
    rows = {"attn_q": heads, "attn_k": metadata.count("attention.head_count_kv", heads)}
    changed: dict[str, Edit] = {}
    for key in tensors:
        layer = key.split(".")[-2] if "." in key else ""
        if architecture.pairs and layer in rows:
            changed[key] = Edit("pairs", rows[layer])
        elif architecture.plus_one and layer.endswith("norm"):
            changed[key] = Edit("plus_one")
        elif layer == "ffn_gate_inp_shexp":
            changed[key] = Edit("flat")
    return changed
