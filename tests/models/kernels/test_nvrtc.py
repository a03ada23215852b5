"""Kernels of our own: how their text is made, what is kept of them, and that a compiler takes all of them."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from models.kernels import CACHE_VARIABLE, nvrtc, prompt_attention
from models.kernels.checked import CheckedKernel
from models.kernels.nvrtc import CompilerError, Kernel, compiled
from models.language.decode import kernels
from models.language.decode.reference_ops import HeadLayout, Places
from models.layers import fused
from models.layers.rope import rotary_table
from models.vae import tiled_statistics

SCALED = "y[threadIdx.x] = (T)(TIMES * (float)x[threadIdx.x] + x_shape[1] + x_shape[0]);"


def _compiler() -> bool:
    try:
        return bool(nvrtc.compiler())
    except CompilerError:
        return False


with_a_compiler = pytest.mark.skipif(not _compiler(), reason="needs NVRTC, which MLX brings for NVIDIA cards")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be run on a card; nothing is."""
    made: list[dict[str, Any]] = []

    def run(**args: Any) -> list[mx.array]:
        made.append(args)
        return [mx.zeros(*how) for how in zip(args["output_shapes"], args["output_dtypes"], strict=True)]

    monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", run)
    monkeypatch.setattr(nvrtc, "usable", lambda: True)
    monkeypatch.setattr(nvrtc, "architecture", lambda: "sm_90")
    monkeypatch.setattr(CheckedKernel, "works", lambda self, dtype: dtype in self.dtypes)
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    nvrtc.cuda_kernel.cache_clear()
    return made


def _call(kernel: Kernel, shape: tuple[int, ...], times: int, dtype: mx.Dtype = mx.bfloat16) -> None:
    kernel(
        inputs=[mx.zeros(shape, dtype)],
        template=[("T", dtype), ("TIMES", times), ("ODD", times % 2 == 1)],
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[shape],
        output_dtypes=[dtype],
    )


def test_types_and_numbers_of_the_template_are_compiled_in_and_shapes_are_not() -> None:
    template = [("T", mx.float16), ("TIMES", 3), ("ODD", True)]
    text = Kernel("scaled", ("x",), ("y",), SCALED).text(template, [mx.bfloat16], [mx.float32])
    assert "NAME(const bfloat16* x, float* y, const int x_0, const int x_1)" in text
    assert "using T = float16;\nconstexpr int TIMES = 3;\nconstexpr bool ODD = true;\n" in text
    assert "+ x_1 + x_0" in text


def test_one_compiling_serves_every_shape(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(nvrtc, "compiled", lambda name, text, card: texts.append(text) or name.encode())
    kernel = Kernel("scaled", ("x",), ("y",), SCALED)
    for shape in ((2, 3), (5, 7)):
        _call(kernel, shape, times=2)
    assert [call["scalars"] for call in calls] == [[2, 3], [5, 7]]
    assert len(texts) == 1
    assert calls[0]["name"] == calls[1]["name"]
    assert f"void {calls[0]['name']}(" in texts[0]
    _call(kernel, (2, 3), times=3)
    _call(kernel, (2, 3), times=2, dtype=mx.float16)
    assert len(texts) == len({call["name"] for call in calls}) == 3


def test_what_was_compiled_is_kept_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(nvrtc, "_compile", lambda name, text, card: f"{card}: {text}".encode())
    assert compiled("one", "text", "sm_90") == b"sm_90: text"
    monkeypatch.setattr(nvrtc, "_compile", lambda *_: pytest.fail("it was compiled again"))
    assert compiled("one", "text", "sm_90") == b"sm_90: text"
    assert [path.name for path in tmp_path.iterdir()] == ["one_sm_90.cubin"]


def test_a_folder_that_cannot_be_written_to_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvrtc, "_compile", lambda *_: b"code")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv(CACHE_VARIABLE, str(folder))
        assert compiled("one", "text", "sm_90") == b"code"


def test_without_a_compiler_mlx_compiles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nvrtc, "COMPILERS", ("libno-such-compiler.so",))
    monkeypatch.setattr(nvrtc, "architecture", lambda: "sm_90")
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    for function in (nvrtc.compiler, nvrtc.usable, nvrtc.cuda_kernel):
        monkeypatch.setattr(nvrtc, function.__name__, function.__wrapped__)
    monkeypatch.setattr(mx.fast, "cuda_kernel", lambda **args: args)
    made = nvrtc.cuda_kernel("one", ("x",), ("y",), "source")
    assert made == {"name": "one", "input_names": ["x"], "output_names": ["y"], "source": "source"}
    assert "libno-such-compiler.so can be loaded" in caplog.text


@with_a_compiler
def test_an_error_of_the_compiler_is_told() -> None:
    with pytest.raises(CompilerError, match=r"identifier .nothing. is undefined"):
        compiled("broken", 'extern "C" __global__ void broken() { nothing; }', "sm_90")


@with_a_compiler
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16], ids=str)
def test_the_compiler_takes_the_kernels_of_texts(calls: list[dict[str, Any]], dtype: mx.Dtype) -> None:
    for rows in (1, 2, 3):
        for gated in (False, True):
            assert kernels.product(mx.zeros((rows, 64), dtype), mx.zeros((12, 64), dtype), gated).shape == (
                rows,
                6 if gated else 12,
            )
            x, w = mx.zeros((rows, 64), dtype), mx.zeros((12, 64), dtype)
            _, y = kernels.normed_product(x, x, mx.zeros(64, dtype), 1e-6, w, gated)
            assert y.shape == (rows, 6 if gated else 12)
            for bits in (4, 8):
                layer = nn.QuantizedLinear(64, 12, bias=False, group_size=32, bits=bits)
                layer.set_dtype(dtype)
                assert kernels.quantized_product(mx.zeros((rows, 64), dtype), layer, gated).shape == (
                    rows,
                    6 if gated else 12,
                )
    kernels.sum_and_norm(mx.zeros((2, 64), dtype), mx.zeros((2, 64), dtype), mx.zeros(64, dtype), 1e-6)
    tiles = mx.array(prompt_attention.tiles([prompt_attention.Run(0, 2, 0)], 8))
    at = mx.zeros(2, mx.int32)
    for size, heads, norm, bias in ((128, 8, True, False), (64, 2, False, True)):
        weight = mx.zeros(size, dtype) if norm else None
        layout = HeadLayout(
            size,
            mx.zeros(size // 2),
            weight,
            weight,
            mx.zeros((heads + 2) * size, dtype) if bias else None,
            1e-6,
        )
        pool = [mx.zeros((4, 1, 32, size), dtype)]
        places = Places(mx.zeros((2, 2), mx.int32), at)
        projected = mx.zeros((2, (heads + 2) * size), dtype)
        q, k, v = kernels.heads(projected, layout, pool, pool, places)
        for splits in (1, 3):
            assert kernels.attention(q, k, v, places, splits, 0.1).shape == (2, heads, size)
        assert prompt_attention.attention(q, k, v, places.tables, tiles, 0.1, window=size).shape == q.shape
    assert {call["name"].rsplit("_", 1)[0] for call in calls} == {
        "product_0", "normed_product_1e_06", "quantized_product", "sum_and_norm_1e_06", "heads_1e_06", "paged_attention", "paged_attention_part", "paged_attention_join",
        "prompt_attention",
    }  # fmt: skip


@with_a_compiler
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32], ids=str)
def test_the_compiler_takes_the_kernels_of_pictures(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, dtype: mx.Dtype
) -> None:
    for module in (fused, tiled_statistics):
        monkeypatch.setattr(module, "on_cuda", lambda: True)
    norm = nn.RMSNorm(16)
    norm.weight = norm.weight.astype(dtype)
    table = rotary_table(np.zeros((7, 1), int), (16,), 2000.0)
    text, image = (fused.Part(mx.zeros((1, length, 3 * 2 * 16), dtype), norm, norm) for length in (3, 4))
    assert fused.heads_first([text, image], table, 2, 16)[0].shape == (1, 2, 7, 16)
    table = rotary_table(np.zeros((4, 1), int), (16,), 2000.0)
    assert fused.heads_first([image], table, 2, 16)[0].shape == (1, 2, 4, 16)
    for gated in (False, True):
        fused.concat_mlp(mx.zeros((1, 4, 32), dtype), mx.zeros((1, 4, 128), dtype), 96, gated)
    rows = tiled_statistics.row_moments(mx.zeros((1, 5, 6, 16), dtype))
    weight = mx.zeros(16, dtype)
    for offset in (None, weight):
        tiled_statistics.scale_and_shift(rows, 4, weight, weight, offset)
    halves = {"concat_mlp"} if dtype != mx.float32 else set()
    names = {call["name"].rsplit("_", 1)[0] for call in calls}
    assert names == halves | {"heads_first_2_1e_05", "heads_first_3_1e_05", "row_moments", "joined_moments"}
