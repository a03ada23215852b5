"""Two memory-bound passes that limit the speed of diffusion transformers, each a single kernel on NVIDIA cards.

`heads_first` turns projections into the inputs of attention, `concat_mlp` puts an MLP's hidden features next to attention's
output. Elsewhere MLX's own operations do the same in several passes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.gpu import on_cuda
from models.kernels.nvrtc import cuda_kernel
from models.layers.rope import rotary_table, rotate

WARP, BLOCK, VECTOR = 32, 256, 8

# The number of tokens is read from the inputs' shapes: as a constant it would need a new kernel for every picture size and
# prompt length. The model's dimensions are constants, so dividing by them is cheap.

# A warp takes one head of one token: the sum of squares by shuffles, then each lane rotates its pairs of channels. The first
# tokens are in `a`, the others in `c`. A row of blocks is one member of the batch, which may have a table of its own.
HEADS = """
    constexpr int PAIRS = (DH / 2 + 31) / 32;
    int lane = threadIdx.x % 32;
    unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    unsigned s = row / (KINDS * H), slot = row % (KINDS * H), kind = slot / H, head = slot % H, member = blockIdx.y;
    unsigned tokens = table_shape[1], of_a = a_shape[1];
    if (s >= tokens) return;
    bool first = s < of_a;
    const T* in = first ? a + (size_t)(member * of_a + s) * a_shape[2]
                        : c + (size_t)(member * (tokens - of_a) + s - of_a) * c_shape[2];
    in += slot * DH;
    T* out = (kind == 0 ? q : kind == 1 ? k : LAST) + (size_t)((member * H + head) * tokens + s) * DH;
    if (kind == 2) {
        for (int i = lane; i < DH; i += 32) out[i] = in[i];
        return;
    }
    const T* weight = kind == 0 ? (first ? wqa : wqc) : (first ? wka : wkc);
    float even[PAIRS], odd[PAIRS], sum = 0;
    for (int i = 0; i < PAIRS; i++) {
        int p = 2 * (lane + 32 * i);
        even[i] = p < DH ? (float)in[p] : 0.0f;
        odd[i] = p < DH ? (float)in[p + 1] : 0.0f;
        sum += even[i] * even[i] + odd[i] * odd[i];
    }
    for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(0xffffffff, sum, step);
    float scale = rsqrtf(sum / DH + EPS);
    const float* turn = table + (size_t)((table_shape[0] == 1 ? 0 : member) * tokens + s) * DH;
    for (int i = 0; i < PAIRS; i++) {
        int p = 2 * (lane + 32 * i);
        if (p >= DH) break;
        float cosine = turn[p], sine = turn[p + 1];
        float x = even[i] * scale * (float)weight[p], y = odd[i] * scale * (float)weight[p + 1];
        out[p] = (T)(x * cosine - y * sine);
        out[p + 1] = (T)(x * sine + y * cosine);
    }
"""
# A thread takes eight features, all of them attention's or all the MLP's.
CONCAT = """
    unsigned vector = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned token = vector / ((W + M) / 8), column = vector % ((W + M) / 8) * 8;
    if (token >= (unsigned)(attended_shape[0] * attended_shape[1])) return;
    uint4* to = reinterpret_cast<uint4*>(out) + vector;
    if (column < W) {
        *to = *reinterpret_cast<const uint4*>(attended + (size_t)token * W + column);
        return;
    }
    const T* from = projected + (size_t)token * LD + OFFSET + column - W;
    uint4 gates = *reinterpret_cast<const uint4*>(from), ups = gates, result;
    if (GATED) ups = *reinterpret_cast<const uint4*>(from + M);
    const T *gate = reinterpret_cast<const T*>(&gates), *up = reinterpret_cast<const T*>(&ups);
    for (int i = 0; i < 8; i++) {
        float x = (float)gate[i];
        float bend = GATED ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
        reinterpret_cast<T*>(&result)[i] = (T)(x / (1.0f + __expf(-bend)) * (GATED ? (float)up[i] : 1.0f));
    }
    *to = result;
"""


class Part(NamedTuple):
    """Tokens as one fused projection, (batch, token, 3 x heads x channels and more), and the norms of their heads."""

    projected: mx.array
    norm_q: nn.RMSNorm | None
    norm_k: nn.RMSNorm | None


def heads_first(
    parts: Sequence[Part], table: mx.array, heads: int, head_dim: int
) -> tuple[mx.array, mx.array, mx.array]:
    """Normed and rotated queries and keys, and values, (batch, head, token, channel), of one part or two in a row."""
    dtype = parts[0].projected.dtype
    if len(parts) <= 2 and all(part.norm_q and part.norm_k for part in parts) and HEADS_FIRST.works(dtype):
        return _heads_by_kernel(parts, table, heads, head_dim)
    return _heads_by_mlx(parts, table, heads, head_dim)


def concat_mlp(attended: mx.array, projected: mx.array, offset: int, gated: bool) -> mx.array:
    """Attention's output and the MLP's hidden features in one row, (batch, token, channels).

    The MLP's input is the projection's columns from `offset` on; its activation is SwiGLU (gated) or GELU.
    """
    width, hidden = attended.shape[2], (projected.shape[2] - offset) // (2 if gated else 1)
    aligned = all(size % VECTOR == 0 for size in (width, hidden, offset, projected.shape[2]))
    if aligned and CONCAT_MLP.works(attended.dtype):
        return _concat_by_kernel(attended, projected, offset, gated)
    return _concat_by_mlx(attended, projected, offset, gated)


def _concat_by_mlx(attended: mx.array, projected: mx.array, offset: int, gated: bool) -> mx.array:
    mlp = projected[..., offset:]
    return mx.concatenate([attended, swiglu(mlp) if gated else gelu(mlp)], axis=-1)


def swiglu(x: mx.array) -> mx.array:
    gate, up = mx.split(x, 2, axis=-1)
    return nn.silu(gate) * up


def gelu(x: mx.array) -> mx.array:
    """The tanh approximation, in float32: a cube overflows half precision. Compiled, it is one pass."""
    wide = x.astype(mx.float32)
    bend = 1.5957691216057308 * (wide + 0.044715 * wide * wide * wide)
    return (wide * mx.sigmoid(bend)).astype(x.dtype)


def _heads_by_mlx(
    parts: Sequence[Part], table: mx.array, heads: int, head_dim: int
) -> tuple[mx.array, mx.array, mx.array]:
    joined: list[list[mx.array]] = [[], [], []]
    for projected, norm_q, norm_k in parts:
        batch, tokens, _ = projected.shape
        fused = projected[..., : 3 * heads * head_dim].reshape(batch, tokens, 3, heads, head_dim)
        for kind, norm in enumerate((norm_q, norm_k, None)):
            joined[kind].append(fused[:, :, kind] if norm is None else norm(fused[:, :, kind]))
    q, k, v = (one[0] if len(one) == 1 else mx.concatenate(one, axis=1) for one in joined)
    q, k = (rotate(x, table).astype(v.dtype) for x in (q, k))  # norms may be stored in a higher precision
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    return q, k, v


def _heads_by_kernel(
    parts: Sequence[Part], table: mx.array, heads: int, head_dim: int
) -> tuple[mx.array, mx.array, mx.array]:
    """Values are copied only to join two parts; a single part's values are a view of its projection."""
    a, c = parts[0].projected, parts[-1].projected
    norms = [
        norm for part in (parts[0], parts[-1]) for norm in (part.norm_q, part.norm_k) if norm is not None
    ]
    weights = [norm.weight.astype(a.dtype) for norm in norms]
    batch, single = a.shape[0], len(parts) == 1
    tokens = a.shape[1] + (0 if single else c.shape[1])
    # One table, or one for each member: (1 or batch, token, pair, 2).
    rotations, kinds = table[0].reshape(-1, tokens, *table.shape[-2:]), 2 if single else 3
    rows = tokens * kinds * heads
    outputs = _heads_kernel(norms[0].eps, single)(
        inputs=[a, c, *weights, rotations],
        template=[("T", a.dtype), ("KINDS", kinds), ("H", heads), ("DH", head_dim)],
        grid=(-(-rows * WARP // BLOCK) * BLOCK, batch, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[(batch, heads, tokens, head_dim)] * kinds,
        output_dtypes=[a.dtype] * kinds,
    )
    if not single:
        q, k, v = outputs
        return q, k, v
    values = a[..., 2 * heads * head_dim : 3 * heads * head_dim]
    q, k = outputs
    return q, k, values.reshape(batch, tokens, heads, head_dim).transpose(0, 2, 1, 3)


def _concat_by_kernel(attended: mx.array, projected: mx.array, offset: int, gated: bool) -> mx.array:
    batch, tokens, width = attended.shape
    hidden = (projected.shape[2] - offset) // (2 if gated else 1)
    total = batch * tokens * (width + hidden)
    template = {
        "T": attended.dtype, "W": width, "M": hidden, "LD": projected.shape[2], "OFFSET": offset, "GATED": gated,
    }  # fmt: skip
    (out,) = _concat_kernel()(
        inputs=[attended, projected],
        template=list(template.items()),
        grid=(-(-total // VECTOR // BLOCK) * BLOCK, 1, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[(batch, tokens, width + hidden)],
        output_dtypes=[attended.dtype],
    )
    return out


def _heads_kernel(eps: float, single: bool) -> Any:
    outputs = ("q", "k") if single else ("q", "k", "v")
    name = f"heads_first_{len(outputs)}_{eps:g}".translate(str.maketrans("-.+", "___"))
    source = HEADS.replace("EPS", f"{eps:.9e}f").replace("LAST", outputs[-1])
    return cuda_kernel(name, ("a", "c", "wqa", "wka", "wqc", "wkc", "table"), outputs, source)


def _concat_kernel() -> Any:
    return cuda_kernel("concat_mlp", ("attended", "projected"), ("out",), CONCAT)


def _heads_cases(dtype: mx.Dtype) -> Iterator[Case]:
    """One part; and two, the second with an MLP behind it."""
    heads, size = 2, 64
    norms = [nn.RMSNorm(size, eps=1e-6) for _ in range(2)]
    for norm, seed in zip(norms, (1, 2), strict=True):
        norm.weight = (1 + 0.3 * mx.random.normal((size,), key=mx.random.key(seed))).astype(dtype)
    widths = ((5, 0), (9, 8))
    parts = [
        Part(
            mx.random.normal((2, tokens, 3 * heads * size + more), key=mx.random.key(tokens)).astype(dtype),
            *norms,
        )
        for tokens, more in widths
    ]
    for case in (parts[:1], parts):
        positions = np.arange(sum(part.projected.shape[1] for part in case))[:, None]
        table = rotary_table(positions, (size,), 2000.0)
        plain = _heads_by_mlx(case, table, heads, size)
        yield from zip(_heads_by_kernel(case, table, heads, size), plain, strict=True)


def _concat_cases(dtype: mx.Dtype) -> Iterator[Case]:
    attended = mx.random.normal((2, 5, 16), key=mx.random.key(1)).astype(dtype)
    projected = (3 * mx.random.normal((2, 5, 96), key=mx.random.key(2))).astype(dtype)
    for gated in (True, False):
        plain = _concat_by_mlx(attended, projected, 48, gated)
        yield _concat_by_kernel(attended, projected, 48, gated), plain


HEADS_FIRST = CheckedKernel("heads_first", on_cuda, (mx.float32, *HALVES), _heads_cases)
CONCAT_MLP = CheckedKernel("concat_mlp", on_cuda, HALVES, _concat_cases)
