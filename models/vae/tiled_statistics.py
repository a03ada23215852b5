"""The statistics of group norm from one read of the image, row by row.

`row_moments` reads pixels, `scale_and_shift` combines rows into groups: exactly, and as stably as two passes over the whole.
Each is one kernel on NVIDIA cards, where MLX's own operations read and write the image several times.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import mlx.core as mx

from models.kernels.checked import HALVES, Case, CheckedKernel
from models.kernels.gpu import on_cuda
from models.kernels.nvrtc import cuda_kernel

EPS = 1e-6
CHUNK = 2**22  # elements converted to float32 at once, without the kernel
VECTOR, LANES, PIXELS, BLOCK = 8, 16, 32, 256

Moments = tuple[mx.array, mx.array]

# A block takes 128 channels of one row, in lanes of eight channels and 32 pixels side by side. Distances are taken from
# the row's first pixel, so that nothing cancels where a channel lies far from zero; what is read beyond the row is that
# pixel again, at no distance. Four loads are under way at once. Sizes come at run time: as template arguments each would
# be compiled anew.
ROWS = """
    struct alignas(16) Vector { T at[8]; };
    __shared__ float sums[16][128], squares[16][128];
    int width = rows_shape[2], channels = rows_shape[3];
    int channel = blockIdx.y * 128 + threadIdx.x * 8;
    const T* row = rows + (long long)blockIdx.x * width * channels;
    float origin[8], sum[8] = {}, square[8] = {};
    if (channel < channels) {
        Vector first = *reinterpret_cast<const Vector*>(row + channel);
        for (int i = 0; i < 8; i++) origin[i] = (float)first.at[i];
        for (int x = threadIdx.y; x < width; x += 128) {
            Vector pixels[4];
            for (int k = 0; k < 4; k++) {
                int at = x + 32 * k < width ? x + 32 * k : 0;
                pixels[k] = *reinterpret_cast<const Vector*>(row + (long long)at * channels + channel);
            }
            for (int i = 0; i < 32; i++) {
                float distance = (float)pixels[i / 8].at[i % 8] - origin[i % 8];
                sum[i % 8] += distance;
                square[i % 8] += distance * distance;
            }
        }
    }
    int thread = threadIdx.y * 16 + threadIdx.x, warp = thread / 32;
    for (int i = 0; i < 8; i++) {
        sum[i] += __shfl_xor_sync(0xffffffff, sum[i], 16);
        square[i] += __shfl_xor_sync(0xffffffff, square[i], 16);
        if (thread % 32 < 16) {
            sums[warp][threadIdx.x * 8 + i] = sum[i];
            squares[warp][threadIdx.x * 8 + i] = square[i];
        }
    }
    __syncthreads();
    channel = blockIdx.y * 128 + thread;
    if (thread >= 128 || channel >= channels) return;
    float mean = 0, distance = 0;
    for (int i = 0; i < 16; i++) {
        mean += sums[i][thread];
        distance += squares[i][thread];
    }
    mean /= width;
    long long at = (long long)blockIdx.x * channels + channel;
    means[at] = (float)row[channel] + mean;
    variances[at] = fmaxf(distance / width - mean * mean, 0.0f);
"""
# A block takes one group of one picture.
JOINED = """
    __shared__ float parts[32];
    int count = means_shape[1], channels = means_shape[2], each = channels / gridDim.x, size = count * each;
    int first = blockIdx.x * each, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    long long start = (long long)blockIdx.y * count * channels + first;
    auto average = [&](float value) {
        for (int step = 16; step; step >>= 1) value += __shfl_xor_sync(0xffffffff, value, step);
        __syncthreads();
        if (lane == 0) parts[warp] = value;
        __syncthreads();
        value = 0;
        for (int i = 0; i < blockDim.x / 32; i++) value += parts[i];
        return value / size;
    };
    auto lean = [&](int i) { return LEANS ? (float)offset[first + i] : 0.0f; };
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < size; i += blockDim.x)
        sum += means[start + (long long)(i / each) * channels + i % each] + lean(i % each);
    float mean = average(sum);
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        long long at = start + (long long)(i / each) * channels + i % each;
        float distance = means[at] + lean(i % each) - mean;
        squares += variances[at] + distance * distance;
    }
    float narrow = rsqrtf(average(squares) + EPS);
    for (int i = threadIdx.x; i < each; i += blockDim.x) {
        float factor = narrow * (float)weight[first + i];
        long long at = (long long)blockIdx.y * channels + first + i;
        scale[at] = factor;
        shift[at] = (float)bias[first + i] + (lean(i) - mean) * factor;
    }
"""


def row_moments(rows: mx.array) -> Moments:
    """Mean and variance along each row, for each channel, in float32: [n, rows, width, channels] to [n, rows, channels]."""
    if rows.shape[3] % VECTOR == 0 and ROW_MOMENTS.works(rows.dtype):
        return _row_moments_by_kernel(rows)
    return _row_moments_by_mlx(rows)


def scale_and_shift(
    moments: Moments, groups: int, weight: mx.array, bias: mx.array, offset: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """The scale and shift, [n, channels], that normalize images with these row moments, [n, rows, channels].

    `offset`, one per channel, counts as if it had been added to every pixel.
    """
    if JOINED_MOMENTS.works(weight.dtype):
        return _scale_and_shift_by_kernel(moments, groups, weight, bias, offset)
    return _scale_and_shift_by_mlx(moments, groups, weight, bias, offset)


@partial(mx.compile, shapeless=True)
def _squared_distance(x: mx.array, mean: mx.array) -> mx.array:
    return mx.square(x.astype(mx.float32) - mean)


def _row_moments_by_mlx(rows: mx.array) -> Moments:
    length = max(1, CHUNK // (rows.size // rows.shape[1]))
    means, variances = [], []
    for first in range(0, rows.shape[1], length):
        piece = rows[:, first : first + length]
        mean = piece.astype(mx.float32).mean(axis=2, keepdims=True)
        means.append(mean[:, :, 0])
        variances.append(_squared_distance(piece, mean).mean(axis=2))
    return mx.concatenate(means, axis=1), mx.concatenate(variances, axis=1)


def _scale_and_shift_by_mlx(
    moments: Moments, groups: int, weight: mx.array, bias: mx.array, offset: mx.array | None
) -> tuple[mx.array, mx.array]:
    n, _, channels = moments[0].shape
    lean = mx.zeros((channels,)) if offset is None else offset.astype(mx.float32)
    mean, variance = _along(1, *moments)
    grouped = (n, groups, channels // groups)
    mean, variance = _along(2, (mean + lean).reshape(grouped), variance.reshape(grouped))
    scale = weight.astype(mx.float32).reshape(1, *grouped[1:]) * mx.rsqrt(variance + EPS)[..., None]
    shift = (lean.reshape(1, *grouped[1:]) - mean[..., None]) * scale
    return scale.reshape(n, channels), bias.astype(mx.float32) + shift.reshape(n, channels)


def _along(axis: int, means: mx.array, variances: mx.array) -> Moments:
    """Moments along an axis, from those of its parts, which are equally large."""
    mean = means.mean(axis=axis, keepdims=True)
    return mean.squeeze(axis), (variances + mx.square(means - mean)).mean(axis=axis)


def _row_moments_by_kernel(rows: mx.array) -> Moments:
    n, height, _, channels = rows.shape
    means, variances = cuda_kernel("row_moments", ("rows",), ("means", "variances"), ROWS)(
        inputs=[rows],
        template=[("T", rows.dtype)],
        grid=(LANES * n * height, PIXELS * -(-channels // (LANES * VECTOR)), 1),
        threadgroup=(LANES, PIXELS, 1),
        output_shapes=[(n, height, channels)] * 2,
        output_dtypes=[mx.float32] * 2,
    )
    return means, variances


def _scale_and_shift_by_kernel(
    moments: Moments, groups: int, weight: mx.array, bias: mx.array, offset: mx.array | None
) -> tuple[mx.array, mx.array]:
    n, _, channels = moments[0].shape
    leans = [value.astype(weight.dtype) for value in (bias, bias if offset is None else offset)]
    scale, shift = _scale_and_shift_kernel()(
        inputs=[*moments, weight, *leans],
        template=[("T", weight.dtype), ("LEANS", offset is not None)],
        grid=(BLOCK * groups, n, 1),
        threadgroup=(BLOCK, 1, 1),
        output_shapes=[(n, channels)] * 2,
        output_dtypes=[mx.float32] * 2,
    )
    return scale, shift


def _scale_and_shift_kernel() -> Any:
    inputs, source = ("means", "variances", "weight", "bias", "offset"), JOINED.replace("EPS", f"{EPS:.9e}f")
    return cuda_kernel("joined_moments", inputs, ("scale", "shift"), source)


def _rows_cases(dtype: mx.Dtype) -> Iterator[Case]:
    """Channels of a tile and of a part of one, each around a mean of its own."""
    for channels in (128, 24):
        means = 3 * mx.random.normal((channels,), key=mx.random.key(2))
        rows = mx.random.normal((1, 3, 37, channels), key=mx.random.key(1)) + means
        rows = rows.astype(dtype)
        yield from zip(_row_moments_by_kernel(rows), _row_moments_by_mlx(rows), strict=True)


def _scale_and_shift_cases(dtype: mx.Dtype) -> Iterator[Case]:
    moments = mx.random.normal((2, 5, 24), key=mx.random.key(1)), mx.random.uniform(0.5, 2, (2, 5, 24))
    weight, bias, lack = mx.random.normal((3, 24), key=mx.random.key(3)).astype(dtype)
    for offset in (None, lack):
        plain = _scale_and_shift_by_mlx(moments, 3, weight, bias, offset)
        yield from zip(_scale_and_shift_by_kernel(moments, 3, weight, bias, offset), plain, strict=True)


ROW_MOMENTS = CheckedKernel("row_moments", on_cuda, (mx.float32, *HALVES), _rows_cases)
JOINED_MOMENTS = CheckedKernel("joined_moments", on_cuda, (mx.float32, *HALVES), _scale_and_shift_cases)
