"""An adapter's file as groups: for each layer that it names, the tensors under that name.

The trainers spell the same few roles in many ways; `ROLES` lists them. A file is checked before anything is computed with it:
its header, its size, types, and that all numbers are finite.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from models.checkpoint.safetensors import Header, WeightsError, read_header

FLOATS = ("F32", "F16", "BF16")
WHOLE = ("I64", "I32")  # an alpha may be a whole number
LARGEST = 8 * 2**30
LISTED = 6

DOWN, UP, BIAS, ALPHA = "down", "up", "bias", "alpha"
ROLES: Mapping[str, str] = {
    "lora_A.weight": DOWN,
    "lora_down.weight": DOWN,
    "lora.down.weight": DOWN,
    "lora_linear_layer.down.weight": DOWN,
    "down.weight": DOWN,
    "lora_B.weight": UP,
    "lora_up.weight": UP,
    "lora.up.weight": UP,
    "lora_linear_layer.up.weight": UP,
    "up.weight": UP,
    "lora_B.bias": BIAS,
    "alpha": ALPHA,
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
}
# Kinds of tensors that are not supported, by their endings.
UNSUPPORTED: Mapping[str, str] = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_magnitude_vector.weight": "DoRA",
    "lora_mid.weight": "LoRA of convolutions",
    "hada_t1": "LoHa of convolutions",
    "hada_t2": "LoHa of convolutions",
    "lokr_t2": "LoKr of convolutions",
    "query_norm.scale": "a control adapter, which replaces norms",
    "key_norm.scale": "a control adapter, which replaces norms",
    "diff": "differences of whole weights",
    "diff_b": "differences of biases",
    "w_norm": "differences of norms",
    "b_norm": "differences of norms",
    "oft_blocks": "OFT",
    "oft_diag": "OFT",
    "boft_blocks": "BOFT",
}


class AdapterError(ValueError):
    """An adapter that cannot be read, or that does not belong to the model."""


@dataclass(frozen=True)
class AdapterFile:
    """`groups`: the tensors of each layer by their role, under the layer's name in the file."""

    groups: Mapping[str, Mapping[str, mx.array]]
    metadata: Mapping[str, str]


def read_adapter_file(path: Path, name: str) -> AdapterFile:
    """An AdapterError begins with `name` and says what is wrong with the file."""
    try:
        header = read_header(path)
    except WeightsError as error:
        # The folder is nothing to clients.
        raise AdapterError(f"{name}: {str(error).replace(str(path), path.name)}") from error
    _check(header, name)
    groups: dict[str, dict[str, str]] = {}
    unknown, kinds = [], set()
    for key in header.tensors:
        layer, role = split_key(key)
        if role is not None:
            if role in groups.setdefault(layer, {}):
                raise AdapterError(
                    f"{name}: {key} and {groups[layer][role]} are the same tensor, stored twice"
                )
            groups[layer][role] = key
        elif kind := unsupported(key):
            kinds.add(kind)
            unknown.append(key)
        else:
            unknown.append(key)
    tensors = _map(path, name)
    if unknown:
        _refuse(name, unknown, kinds, tensors)
    if not groups:
        raise AdapterError(f"{name}: there are no tensors of an adapter in {path.name}")
    _check_finite(name, tensors)
    read = {layer: {role: tensors[key] for role, key in roles.items()} for layer, roles in groups.items()}
    return AdapterFile(read, header.metadata)


def split_key(key: str) -> tuple[str, str | None]:
    """A layer's name and the role of a tensor; None for a tensor that no adapter has."""
    plain = key.replace(".default.", ".").removesuffix(".default")
    parts = plain.split(".")
    for count in (3, 2, 1):
        role = ROLES.get(".".join(parts[-count:])) if len(parts) > count else None
        if role is not None:
            return ".".join(parts[:-count]), role
    return plain, None


def unsupported(key: str) -> str | None:
    parts = key.replace(".default", "").split(".")
    return UNSUPPORTED.get(".".join(parts[-2:])) or UNSUPPORTED.get(parts[-1])


def listed(names: Iterable[str], limit: int = LISTED) -> str:
    """The first few names, for a message."""
    each = [name if len(name) <= 120 else f"{name[:110]}…" for name in sorted(names)]
    rest = f" and {len(each) - limit} more" if len(each) > limit else ""
    return ", ".join(each[:limit]) + rest


def _check(header: Header, name: str) -> None:
    total = sum(info.nbytes for info in header.tensors.values())
    if total > LARGEST:
        raise AdapterError(f"{name} is too large for an adapter: {total:,} bytes, at most {LARGEST:,}")
    for key, info in header.tensors.items():
        allowed = (*FLOATS, *WHOLE) if key.endswith("alpha") else FLOATS
        if info.dtype not in allowed:
            raise AdapterError(f"{name}: {listed([key])} is {info.dtype}; {', '.join(FLOATS)} are supported")
        if 0 in info.shape:
            raise AdapterError(f"{name}: {listed([key])} is empty, {list(info.shape)}")


def _map(path: Path, name: str) -> dict[str, mx.array]:
    try:
        return cast(dict[str, mx.array], mx.load(str(path), format="safetensors"))
    except RuntimeError as error:
        raise AdapterError(f"{name}: {path.name} cannot be read") from error


def _refuse(name: str, unknown: list[str], kinds: set[str], tensors: Mapping[str, mx.array]) -> None:
    """Tensors of other kinds are let through where they are zero: some tools write them so."""
    nonzero = [key for key in unknown if mx.any(tensors[key] != 0).item()]
    if not nonzero:
        return
    why = f" ({', '.join(sorted(kinds))})" if kinds else ""
    raise AdapterError(
        f"{name}: {len(nonzero)} of its tensors are of a kind that is not supported{why}: {listed(nonzero)}; LoRA, LoHa and "
        "LoKr are supported"
    )


def _check_finite(name: str, tensors: Mapping[str, mx.array]) -> None:
    """Reads the whole file."""
    finite = {key: mx.all(mx.isfinite(tensor)) for key, tensor in tensors.items()}
    mx.eval(finite)
    broken = [key for key, good in finite.items() if not good.item()]
    if broken:
        raise AdapterError(f"{name}: {len(broken)} of its tensors hold NaN or infinity: {listed(broken)}")
