"""A kernel of ours is used where it agrees with plain operations; elsewhere these stand in, and one warning says why."""

import logging
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from models import kernel_checks
from models.kernels import checked, gpu, paged_attention, paged_write, prompt_attention
from models.kernels.checked import HALVES, CheckedKernel, KernelError
from models.language.decode import kernel_cases, kernels, matmul, packed_matmul, reference_ops
from models.layers import fused
from models.vae import tiled_statistics

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")

Result = Callable[[mx.array], mx.array]


def kernel(ours: Result, here: bool = True) -> CheckedKernel:
    x = mx.arange(12).astype(mx.float32)
    return CheckedKernel("twice", lambda: here, (mx.float32,), lambda dtype: [(ours(x), x + x)])


def refuses(x: mx.array) -> mx.array:
    raise RuntimeError("no kernel image")


def test_one_that_agrees_is_used_and_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    calls = []
    twice = kernel(lambda x: calls.append(1) or 2 * x)
    assert twice.works(mx.float32)
    assert twice.works(mx.float32)
    assert len(calls) == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        (lambda x: 3 * x, "differs from plain operations by 5.0e-01"),
        (lambda x: x * float("nan"), "differs from plain operations by nan"),
        (lambda x: x[:4], "shape"),
        (refuses, "no kernel image"),
    ],
    ids=["wrong", "no numbers", "short", "refused"],
)
def test_one_that_does_not_is_put_aside_with_one_warning(
    ours: Result, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    twice = kernel(ours)
    assert not twice.works(mx.float32)
    assert not twice.works(mx.float32)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "plain operations replace the kernel twice" in record.message
    assert why in record.message
    with pytest.raises((KernelError, RuntimeError)):
        twice.self_test(mx.float32)


def test_where_the_device_has_none_nothing_is_tried() -> None:
    twice = kernel(refuses, here=False)
    assert not twice.works(mx.float32)
    assert not kernel(refuses).works(mx.int32)


# -- each of ours: the small case itself, its kernel replaced by the plain operations where there is no card


def multiplied(x: mx.array, layer: Any, gated: bool = False) -> mx.array:
    """By the unpacked weights, rounded once, as the kernel does."""
    scales, biases = layer["scales"].astype(mx.float32), layer["biases"].astype(mx.float32)
    weight = mx.dequantize(layer["weight"], scales, biases, layer.group_size, layer.bits)
    return reference_ops.product(x.astype(mx.float32), weight, gated).astype(x.dtype)


def by_plain_operations(*given: Any, splits: int, **options: Any) -> mx.array:
    return paged_attention.plain(*given, **options)


def prompts_by_plain_operations(
    queries: mx.array,
    keys: list[mx.array],
    values: list[mx.array],
    tables: mx.array,
    parts: mx.array,
    scale: float,
    **options: Any,
) -> mx.array:
    """Row by row, as tiles say which text and place each is of."""
    rows = [
        (text, place + at if text >= 0 else -1)
        for text, _, count, place in parts.tolist()
        for at in range(count)
    ]
    texts, ends = (mx.array(column, mx.int32) for column in zip(*rows, strict=True))
    by_row = tables[mx.maximum(texts, 0)]
    return paged_attention.plain(queries, keys, values, by_row, ends, scale, **options)


def written(
    keys: list[mx.array],
    values: list[mx.array],
    k: mx.array,
    v: mx.array,
    blocks: mx.array,
    offsets: mx.array,
) -> mx.array:
    """In place."""
    for pool, new in ((keys, k), (values, v)):
        bits = pool[0].shape[-1] * 32 // new.shape[-1] if len(pool) > 1 else 0
        for array, part in zip(pool, mx.quantize(new, 64, bits) if bits else [new], strict=True):
            array[blocks, :, offsets] = part
    return mx.zeros(1, mx.int32)


def replaced(array: mx.array, rows: mx.array, targets: mx.array) -> mx.array:
    """In place."""
    array[targets] = rows
    return mx.zeros(1, mx.int32)


def as_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_heads_by_kernel", fused._heads_by_mlx)
    monkeypatch.setattr(fused, "_concat_by_kernel", fused._concat_by_mlx)
    monkeypatch.setattr(tiled_statistics, "_row_moments_by_kernel", tiled_statistics._row_moments_by_mlx)
    monkeypatch.setattr(
        tiled_statistics, "_scale_and_shift_by_kernel", tiled_statistics._scale_and_shift_by_mlx
    )
    monkeypatch.setattr(packed_matmul, "product", multiplied)
    monkeypatch.setattr(paged_attention, "attention", by_plain_operations)
    monkeypatch.setattr(prompt_attention, "attention", prompts_by_plain_operations)
    monkeypatch.setattr(paged_write, "write", written)
    monkeypatch.setattr(paged_write, "replace", replaced)
    for name in ("sum_and_norm", "product", "normed_product", "heads"):
        monkeypatch.setattr(kernels, name, getattr(reference_ops, name))


def test_every_kernel_is_listed_under_its_own_name() -> None:
    names = [one.name for one in kernel_checks.all_kernels()]
    assert len(set(names)) == len(names)
    assert {"heads_first", "row_moments", "heads", "quantized_product"} <= set(names)


@pytest.mark.parametrize("index", range(len(kernel_checks.all_kernels())))
def test_its_small_case_holds_for_what_is_right(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = kernel_checks.all_kernels()[index]
    if not one.runs_here():
        as_plain(monkeypatch)
    for dtype in one.dtypes:
        assert one.self_test(dtype) <= checked.TOLERANCE[dtype]


@on_a_card
def test_all_of_them_work_on_this_card() -> None:
    for one in kernel_checks.all_kernels():
        for dtype in one.dtypes if one.runs_here() else ():
            assert one.works(dtype), one.name


# -- where they are chosen


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card whose every kernel is wrong."""

    def zeros(x: mx.array, *_: Any, **__: Any) -> mx.array:
        return mx.zeros_like(x)

    for module in (fused, tiled_statistics, matmul):
        monkeypatch.setattr(module, "on_cuda", lambda: True)
    for one in kernel_checks.all_kernels():
        monkeypatch.setattr(one, "_runs_here", lambda: True)
        monkeypatch.setattr(one, "_works", {})
    monkeypatch.setattr(fused, "_heads_by_kernel", lambda *args: [mx.zeros((1,))] * 3)
    monkeypatch.setattr(fused, "_concat_by_kernel", zeros)
    monkeypatch.setattr(
        tiled_statistics, "_row_moments_by_kernel", lambda rows: (mx.zeros((1,)), mx.zeros((1,)))
    )
    monkeypatch.setattr(
        tiled_statistics, "_scale_and_shift_by_kernel", lambda *args: (mx.zeros((1,)), mx.zeros((1,)))
    )
    monkeypatch.setattr(packed_matmul, "product", lambda x, layer, gated=False: mx.zeros((1,)))


@pytest.mark.usefixtures("wrong")
def test_pictures_and_texts_are_computed_by_plain_operations_then(caplog: pytest.LogCaptureFixture) -> None:
    x = mx.random.normal((1, 4, 32)).astype(mx.bfloat16)
    projected = mx.random.normal((1, 4, 96)).astype(mx.bfloat16)
    plain = fused._concat_by_mlx(x, projected, 32, True)
    assert mx.array_equal(fused.concat_mlp(x, projected, 32, gated=True), plain)
    rows = mx.random.normal((1, 2, 8, 16))
    for ours, right in zip(
        tiled_statistics.row_moments(rows), tiled_statistics._row_moments_by_mlx(rows), strict=True
    ):
        assert mx.array_equal(ours, right)
    layer = nn.QuantizedLinear(256, 64, bias=False)
    layer.set_dtype(mx.bfloat16)
    inputs = mx.random.normal((3, 256)).astype(mx.bfloat16)
    assert matmul.product(inputs, layer).shape == (3, 64)
    assert len(caplog.records) == 3


@pytest.mark.usefixtures("wrong")
def test_loading_a_network_tries_them_in_the_types_of_its_weights(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Linear(4, 4)
    network.set_dtype(mx.float16)
    kernel_checks.check_for_pictures(network)
    assert [one._works for one in kernel_checks.PICTURES] == [{mx.float16: False}] * 4
    assert len(caplog.records) == 4


def test_half_types_are_those_that_the_kernels_are_for() -> None:
    assert {dtype for one in kernel_cases.DECODING for dtype in one.dtypes} == set(HALVES)
