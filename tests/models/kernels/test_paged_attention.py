"""Attention over blocks: the kernel's text for Metal and for CUDA, run on the processor, gives what plain operations give."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
import pytest

from models.kernels import checked as checked_module
from models.kernels import paged_attention, portable
from models.kernels.checked import KernelError
from models.kernels.gpu import on_cuda
from models.kernels.paged_attention import Shape, attention, checked, plain, random_pool, works
from models.kernels.paged_source import ATTENTION, JOIN
from models.kernels.portable import METAL, WORDS, rendered
from tests.models.kernels.emulator import BUILT_IN, COMPILER, Emulated, emulated_cuda, emulated_metal

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")
MakeKernel: TypeAlias = Callable[..., Emulated]
SHAPES = [
    Shape(128, 4, mx.bfloat16, 32),
    Shape(64, 5, mx.float16, 32, bits=8, group=64),
    Shape(128, 2, mx.bfloat16, 32, bits=4, group=64),
    Shape(64, 3, mx.float32, 32),
    Shape(128, 9, mx.float16, 32),  # more heads than a threadgroup takes
    Shape(80, 1, mx.float16, 32),  # threads without channels
    Shape(256, 2, mx.bfloat16, 32),
    Shape(96, 2, mx.float32, 32, bits=4, group=32),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@needs_compiler
@pytest.mark.parametrize(
    ("language", "shape"),
    [*((emulated_metal, shape) for shape in SHAPES), *((emulated_cuda, shape) for shape in SHAPES[:3])],
    ids=lambda value: (
        f"{value.heads}x{value.size}-{value.bits}" if isinstance(value, Shape) else value.__name__
    ),
)
def test_the_kernel_gives_what_plain_operations_give(
    language: Callable[[Path], MakeKernel], shape: Shape, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "portable_kernel", language(folder))
    assert shape.supported
    assert checked.__wrapped__(shape).self_test(shape.dtype) < 1e-2  # raises an error if they differ by more


@needs_compiler
def test_shares_of_a_text_are_joined_with_sinks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "portable_kernel", emulated_metal(folder))
    queries, sinks = mx.random.normal((2, 4, 64), key=mx.random.key(1)), mx.array([-1.0, 0.5, 3.0, 0.0])
    keys, values = (random_pool((6, 2, 32, 64), seed, mx.float32, 0, 0) for seed in (2, 3))
    tables, ends = mx.array([[3, 1, 5], [2, 4, 2]], mx.int32), mx.array([90, 20], mx.int32)
    ours = attention(queries, keys, values, tables, ends, 0.1, window=50, sinks=sinks, splits=2)
    assert mx.allclose(
        ours, plain(queries, keys, values, tables, ends, 0.1, window=50, sinks=sinks), 1e-4, 1e-5
    )


@needs_compiler
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("BARRIER;\n        const int d", "const int d"),
        ("end - WINDOW + 1", "end - WINDOW"),
        ("sum[g] *= kept;", ""),
    ],
    ids=["a barrier less", "a token more than the window", "a sum not scaled"],
)
def test_a_wrong_kernel_is_noticed(
    right: str, wrong: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ATTENTION.count(right) == 1
    monkeypatch.setattr(portable, "portable_kernel", emulated_metal(folder))
    monkeypatch.setattr(paged_attention, "ATTENTION", ATTENTION.replace(right, wrong))
    with pytest.raises(KernelError, match="differs from plain operations"):
        checked.__wrapped__(SHAPES[0]).self_test(mx.bfloat16)


@pytest.mark.parametrize("body", [ATTENTION, JOIN], ids=["attention", "join"])
def test_the_text_for_metal_has_nothing_of_cuda(body: str) -> None:
    text = rendered(body, METAL)
    assert not re.search(r"__\w+|threadIdx|blockIdx|gridDim|\[[&=]?\]\s*\(|\bauto\b", text)
    attributes = set(re.findall(r"\bthread\w+(?=\.x|\.y)", text))
    assert attributes == set(BUILT_IN)
    assert not [word for word, (metal, _) in WORDS.items() if not metal]


def test_plain_operations_give_what_numpy_gives() -> None:
    rows, kv, heads, size, window = 3, 2, 3, 16, 20
    tables, ends = np.array([[3, 1], [2, 5], [4, 4]]), np.array([40, 31, -1])
    queries = mx.random.normal((rows, kv * heads, size), key=mx.random.key(1))
    keys, values = (random_pool((6, kv, 32, size), seed, mx.float32, 0, 0) for seed in (2, 3))
    sinks = mx.array(np.linspace(-1, 1, kv * heads), mx.float32)
    ours = plain(
        queries, keys, values, mx.array(tables), mx.array(ends), 0.3, window=window, sinks=sinks, softcap=1.5
    )
    wide = [np.array(x, np.float64) for x in (keys[0], values[0], queries)]
    for row, head in np.ndindex(rows, kv * heads):
        k, v = (np.concatenate(x[tables[row], head // heads]) for x in wide[:2])
        seen = slice(max(ends[row] - window + 1, 0), ends[row] + 1)
        scores = np.append(1.5 * np.tanh(k[seen] @ wide[2][row, head] * 0.3 / 1.5), float(sinks[head].item()))
        weights = np.exp(scores) / np.exp(scores).sum()
        assert np.allclose(np.array(ours[row, head]), weights[:-1] @ v[seen], atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(100, 1, mx.float16, 32),
        Shape(512, 1, mx.float16, 32),
        Shape(128, 1, mx.float16, 16),
        Shape(128, 1, mx.float16, 32, bits=6, group=64),
    ],
)
def test_other_shapes_are_left_to_plain_operations(shape: Shape) -> None:
    assert not works(shape)


def test_a_kernel_that_fails_is_reported_once_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    reports: list[str] = []
    monkeypatch.setattr(checked_module, "reports", reports)
    monkeypatch.setattr(portable, "runs_here", lambda: True)
    monkeypatch.setattr(portable, "portable_kernel", refused)
    checked.cache_clear()
    shape = Shape(128, 7, mx.float16, 32)
    assert not works(shape)
    assert not works(shape)
    checked.cache_clear()
    assert reports == [
        "plain operations replace the kernel paged_attention (7 x 128) (mlx.core.float16): no compiler"
    ]
    assert reports == [record.message for record in caplog.records]


@pytest.mark.skipif(not on_cuda(), reason="needs an NVIDIA card")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads}x{shape.size}-{shape.bits}")
def test_on_a_card_it_gives_what_plain_operations_give(shape: Shape) -> None:
    assert checked.__wrapped__(shape).self_test(shape.dtype) < 1e-2
