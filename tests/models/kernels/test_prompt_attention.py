"""The kernel that reads prompts: what its threadgroups take, and on a card what it gives."""

import mlx.core as mx
import numpy as np
import pytest

from models.kernels import gpu
from models.kernels.paged_attention import Shape
from models.kernels.prompt_attention import PADDING, Run, checked, heads_together, tiles, works

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 7, 8])
def test_tiles_hold_each_token_once_in_order(heads: int) -> None:
    runs = [Run(0, 70, 5), Run(1, 1, 0), Run(2, 64, 300), Run(PADDING, 9, 0)]
    parts = tiles(runs, heads)
    assert heads % heads_together(heads) == 0
    assert parts[:, 2].max() * heads_together(heads) <= 64
    rows = [(text, row + at, place + at) for text, row, count, place in parts for at in range(count)]
    begins = np.cumsum([0, *(run.tokens for run in runs)])
    assert rows == [
        (text, begin + at, first + at)
        for (text, count, first), begin in zip(runs, begins, strict=False)
        for at in range(count)
    ]


def test_shapes_without_a_kernel_are_left_to_plain_operations() -> None:
    for shape in (
        Shape(80, 4, mx.bfloat16, 32),
        Shape(128, 4, mx.bfloat16, 32, bits=8, group=64),
        Shape(128, 4, mx.float32, 32),
        Shape(128, 4, mx.bfloat16, 16),
    ):
        assert not works(shape)


@on_a_card
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
@pytest.mark.parametrize("size", [64, 96, 128, 256])
@pytest.mark.parametrize("heads", [1, 2, 4, 7, 8])
def test_on_a_card_it_gives_what_plain_operations_give(size: int, heads: int, dtype: mx.Dtype) -> None:
    assert checked.__wrapped__(Shape(size, heads, dtype, 32)).self_test(dtype) < 1e-2
