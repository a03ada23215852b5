"""Writing to blocks in place: the kernel's text for CUDA, run on the processor, gives what plain operations give."""

from pathlib import Path

import mlx.core as mx
import pytest

from models.kernels import portable
from models.kernels.gpu import on_cuda
from models.kernels.paged_attention import Shape
from models.kernels.paged_write import REPLACE_ROWS, checked, works
from tests.models.kernels.emulator import COMPILER, emulated_cuda


# Quantized in float32, where no number is half way between two levels: processors round those to even, cards away from zero.
@pytest.mark.skipif(COMPILER is None, reason="needs g++")
@pytest.mark.parametrize(
    "shape",
    [
        Shape(80, 1, mx.float16, 32),
        Shape(128, 1, mx.bfloat16, 32),
        Shape(128, 1, mx.float32, 32, bits=4, group=64),
        Shape(64, 1, mx.float32, 32, bits=8, group=64),
    ],
    ids=lambda shape: f"{shape.size}-{shape.bits}",
)
def test_the_kernel_writes_what_plain_operations_write(
    shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "portable_kernel", emulated_cuda(tmp_path))
    assert checked.__wrapped__(shape).self_test(shape.dtype) == 0


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_the_kernel_replaces_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "portable_kernel", emulated_cuda(tmp_path))
    assert REPLACE_ROWS.self_test(mx.bfloat16) == 0


def test_groups_of_32_are_left_to_plain_operations() -> None:
    assert not works(Shape(96, 1, mx.float16, 32, bits=4, group=32))


@pytest.mark.skipif(not on_cuda(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("bits", [0, 4, 8])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32], ids=str)
def test_on_a_card_it_writes_what_plain_operations_write(bits: int, dtype: mx.Dtype) -> None:
    shape = Shape(128, 1, dtype, 32, bits=bits, group=64 if bits else 0)
    assert checked.__wrapped__(shape).self_test(dtype) == 0
    assert REPLACE_ROWS.self_test(dtype) == 0
