import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from models.kernels import gpu
from models.layers import fused
from models.layers.fused import Part, concat_mlp, gelu, heads_first, swiglu
from models.layers.rope import rotary_table, rotate

on_a_card = pytest.mark.skipif(not gpu.on_cuda(), reason="needs an NVIDIA card")
HALVES = [mx.bfloat16, mx.float16]


def norm(size: int, eps: float, seed: int, dtype: mx.Dtype) -> nn.RMSNorm:
    layer = nn.RMSNorm(size, eps=eps)
    layer.weight = (1 + 0.3 * mx.random.normal((size,), key=mx.random.key(seed))).astype(dtype)
    return layer


def part(batch: int, tokens: int, heads: int, head_dim: int, more: int, seed: int, dtype: mx.Dtype) -> Part:
    shape = (batch, tokens, 3 * heads * head_dim + more)
    projected = mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)
    return Part(projected, norm(head_dim, 1e-4, seed + 1, dtype), norm(head_dim, 1e-4, seed + 2, dtype))


def table(tokens: int, head_dim: int, batch: int | None = None) -> mx.array:
    shape = (tokens, 1) if batch is None else (batch, tokens, 1)
    return rotary_table(np.random.default_rng(2).integers(0, 500, shape), (head_dim,), 2000.0)


def by_hand(parts: list[Part], turns: mx.array, heads: int, head_dim: int) -> list[mx.array]:
    """One head of one kind after another, in float32."""
    joined = []
    for kind in range(3):
        pieces = []
        for projected, norm_q, norm_k in parts:
            start = kind * heads * head_dim
            x = projected[..., start : start + heads * head_dim].astype(mx.float32)
            x = x.reshape(*x.shape[:2], heads, head_dim)
            layer = (norm_q, norm_k, None)[kind]
            if layer is not None:
                mean = mx.mean(x * x, axis=-1, keepdims=True)
                x = x * mx.rsqrt(mean + layer.eps) * layer.weight.astype(mx.float32)
            pieces.append(x)
        whole = mx.concatenate(pieces, axis=1)
        joined.append((rotate(whole, turns) if kind < 2 else whole).transpose(0, 2, 1, 3))
    return joined


def close(actual: mx.array, expected: mx.array, tolerance: float) -> bool:
    assert actual.shape == expected.shape
    return bool(mx.allclose(actual.astype(mx.float32), expected.astype(mx.float32), tolerance, tolerance))


CASES = [
    ("one part", 1, (7,), 3, 20, 0),
    ("a part with an MLP behind it, twice", 2, (9,), 5, 16, 24),
    ("text and picture", 1, (4, 9), 3, 12, 0),
    ("text and picture, twice, wide heads", 2, (5, 8), 2, 128, 8),
    ("heads of more than a warp's pairs", 1, (6,), 1, 200, 0),
]


@pytest.mark.parametrize(
    ("batch", "tokens", "heads", "head_dim", "more"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
@pytest.mark.parametrize("each", [False, True], ids=["one table", "a table each"])
@pytest.mark.parametrize("dtype", [mx.float32, *HALVES], ids=str)
def test_heads_are_normed_turned_and_come_first(
    batch: int, tokens: tuple[int, ...], heads: int, head_dim: int, more: int, each: bool, dtype: mx.Dtype
) -> None:
    parts = [part(batch, count, heads, head_dim, more, 10 * i, dtype) for i, count in enumerate(tokens)]
    turns = table(sum(tokens), head_dim, batch if each else None)
    actual = heads_first(parts, turns, heads, head_dim)
    tolerance = 1e-5 if dtype == mx.float32 else 0.03
    for one, other in zip(actual, by_hand(parts, turns, heads, head_dim), strict=True):
        assert one.dtype == dtype
        assert close(one, other, tolerance)


def test_heads_without_norms_are_turned_alone() -> None:
    bare = Part(mx.random.normal((1, 4, 24)), None, None)
    turns = table(4, 4)
    actual = heads_first([bare], turns, 2, 4)
    assert all(
        close(one, other, 1e-6) for one, other in zip(actual, by_hand([bare], turns, 2, 4), strict=True)
    )


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("width", [16, 12], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("dtype", [mx.float32, *HALVES], ids=str)
def test_the_mlps_features_stand_behind_attentions(gated: bool, width: int, dtype: mx.Dtype) -> None:
    attended = mx.random.normal((2, 5, width)).astype(dtype)
    projected = (3 * mx.random.normal((2, 5, 3 * width + 48))).astype(dtype)
    actual = concat_mlp(attended, projected, 3 * width, gated)
    mlp = projected[..., 3 * width :].astype(mx.float32)
    expected = swiglu(mlp) if gated else nn.gelu_approx(mlp)
    assert actual.dtype == dtype
    assert mx.array_equal(actual[..., :width], attended)
    assert close(actual[..., width:], expected, 1e-5 if dtype == mx.float32 else 0.02)


def test_gelu_is_the_references_approximation() -> None:
    x = mx.linspace(-8, 8, 321)
    assert close(gelu(x), 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x**3))), 1e-6)


@on_a_card
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_kernels_and_pieces_agree(dtype: mx.Dtype) -> None:
    parts = [part(2, count, 24, 128, 0, count, dtype) for count in (512, 1024)]
    turns = table(1536, 128)
    pieces = fused._heads_by_mlx(parts, turns, 24, 128)
    for one, other in zip(fused._heads_by_kernel(parts, turns, 24, 128), pieces, strict=True):
        assert close(one, other, 0.03)


def test_no_number_of_tokens_needs_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: set[tuple[tuple[str, object], ...]] = set()

    def kernel(template, output_shapes, output_dtypes, **_):  # type: ignore[no-untyped-def]
        compiled.add(tuple(template))
        return [mx.zeros(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]

    monkeypatch.setattr(fused, "_heads_kernel", lambda *_: kernel)
    monkeypatch.setattr(fused, "_concat_kernel", lambda: kernel)
    for tokens in (7, 32, 4608):
        fused._heads_by_kernel([part(1, tokens, 2, 8, 0, 1, mx.bfloat16)], table(tokens, 8), 2, 8)
        attended, projected = (mx.zeros((1, tokens, width), mx.bfloat16) for width in (16, 64))
        fused._concat_by_kernel(attended, projected, 48, gated=True)
    assert len(compiled) == 2
