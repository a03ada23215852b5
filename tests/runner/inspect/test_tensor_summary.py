"""What headers add up to."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.safetensors import TensorInfo
from runner.inspect.tensor_summary import has_packed, summarize, unpacked_bytes

DTYPES = {mx.uint32: "U32", mx.uint8: "U8", mx.float32: "F32", mx.bfloat16: "BF16"}


def declared(net: nn.Module) -> dict[str, TensorInfo]:
    """A network's arrays as a file would declare them."""
    arrays: dict[str, mx.array] = dict(tree_flatten(net.parameters()))
    return {name: TensorInfo(DTYPES[a.dtype], tuple(a.shape), 0, a.nbytes) for name, a in arrays.items()}


def linear(mode: str | None = None, bits: int = 4, group_size: int = 64) -> nn.Module:
    net = nn.Sequential(nn.Linear(256, 32), nn.Linear(32, 4))
    if mode:
        nn.quantize(net, group_size, bits, mode=mode, class_predicate=lambda path, _: path.endswith("0"))
    return net


def test_plain_weights_are_counted_as_they_are() -> None:
    summary = summarize(declared(linear()))
    assert (summary.parameters, summary.bytes) == (
        256 * 32 + 32 + 32 * 4 + 4,
        4 * (256 * 32 + 32 + 32 * 4 + 4),
    )
    assert list(summary.stored) == ["F32"]


@pytest.mark.parametrize(
    ("mode", "bits", "group_size", "way"),
    [
        *[("affine", bits, 64, f"{bits}-bit (groups of 64)") for bits in (2, 3, 4, 5, 6, 8)],
        ("affine", 4, 32, "4-bit (groups of 32)"),
        ("nvfp4", 4, 16, "nvfp4"),
        ("mxfp4", 4, 32, "mxfp4"),
        ("mxfp8", 8, 32, "mxfp8"),
    ],
)
def test_packed_weights_are_counted_as_what_they_stand_for(
    mode: str, bits: int, group_size: int, way: str
) -> None:
    net = linear(mode, bits, group_size)
    quantization = {"bits": bits, "group_size": group_size, "mode": mode}
    summary = summarize(declared(net), quantization)
    assert summary.parameters == summarize(declared(linear())).parameters
    assert next(iter(summary.stored)) == way
    assert summary.bytes == sum(a.nbytes for _, a in tree_flatten(net.parameters()))


@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (8, 64), (6, 64), (3, 64)])
def test_usual_packing_is_told_from_the_shapes_alone(bits: int, group_size: int) -> None:
    summary = summarize(declared(linear("affine", bits, group_size)))
    assert next(iter(summary.stored)) == f"{bits}-bit (groups of {group_size})"
    assert summary.parameters == summarize(declared(linear())).parameters


def test_shapes_that_fit_nothing_are_still_counted() -> None:
    odd = {"a.weight": TensorInfo("U32", (4, 7), 0, 112), "a.scales": TensorInfo("F32", (4, 5), 112, 192)}
    assert summarize(odd).parameters == 4 * 7 * 8
    assert summarize({name: TensorInfo("U32", (), 0, 4) for name in odd}).bytes == 8


def test_integers_that_pack_nothing_are_plain() -> None:
    assert summarize({"table.weight": TensorInfo("U32", (4, 4), 0, 64)}).parameters == 16


def test_a_layer_that_is_quantized_in_a_way_of_its_own_is_read_so() -> None:
    tensors = declared(linear("affine", 8, 32))
    [name] = [name.removesuffix(".weight") for name, info in tensors.items() if info.dtype == "U32"]
    plain = summarize(declared(linear())).parameters
    own = {"bits": 4, "group_size": 64, name: {"bits": 8, "group_size": 32}}
    assert summarize(tensors, own).parameters == plain
    assert unpacked_bytes(tensors, own) == 4 * plain
    assert has_packed(tensors)
    assert not has_packed(declared(linear()))
