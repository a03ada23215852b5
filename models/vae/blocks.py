"""The blocks of an autoencoder's encoder and decoder. They work strip by strip where their input does; with `recompute` a
block keeps no intermediate results, and computes them as often as they are needed.

Parameter names are the checkpoints'; arrays are channels-last.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn

from models.layers.attention import on_cpu, softmax_attention
from models.vae.group_norm import GroupNorm
from models.vae.tiling import (
    Lazy,
    Materialized,
    RowWindow,
    TiledImage,
    TileScheduler,
    halo,
    materialize,
    materialize_together,
)

SCORES = 2**26  # attention scores that a GPU holds at once, at most; a fourth of them in strips


@partial(mx.compile, shapeless=True)
def _added(x: mx.array, y: mx.array, bias: mx.array) -> mx.array:
    return (x.astype(mx.float32) + y.astype(mx.float32) + bias.astype(mx.float32)).astype(x.dtype)


class Fitted(Protocol):
    """A norm that is ready for any rows of the image it was fitted to."""

    def __call__(self, rows: mx.array) -> mx.array: ...

    def silu(self, rows: mx.array) -> mx.array:
        """Normed, then through SiLU."""


class Norm(Protocol):
    def fit(self, image: TiledImage, offset: mx.array | None = None) -> Fitted:
        """`offset` is a convolution's bias that the image still lacks."""


class ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], Norm]) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def __call__(self, x: TiledImage, recompute: bool = False) -> Materialized:
        if not recompute:
            x = materialize(x)
        first = self.norm1.fit(x)
        hidden: TiledImage = Lazy(partial(self._hidden, first), (x, halo(1)))
        if recompute:
            second = self.norm2.fit(hidden, self.conv1.bias)
            return materialize(
                Lazy(lambda w: self._output(second, self._hidden(first, w), self._residual(w)), (x, halo(2)))
            )
        hidden, residual = self._kept(hidden, x)
        second = self.norm2.fit(hidden, self.conv1.bias)
        return materialize(Lazy(partial(self._output, second), (hidden, halo(1)), (residual, halo(0))))

    def _kept(self, hidden: TiledImage, x: TiledImage) -> tuple[TiledImage, TiledImage]:
        """The hidden image and the residual, which is kept where it is narrower than its source."""
        if "conv_shortcut" not in self:
            return materialize(hidden, release=False), x
        hidden, residual = materialize_together([hidden, Lazy(self._residual, (x, halo(0)))])
        return hidden, residual

    def _hidden(self, norm: Fitted, x: RowWindow) -> RowWindow:
        """Without conv1's bias, which the second norm adds."""
        return x.map(norm.silu).convolve(self.conv1.weight)

    def _residual(self, x: RowWindow) -> RowWindow:
        """Without the shortcut's bias, which `_output` adds."""
        if "conv_shortcut" not in self:
            return x
        return x.map(lambda rows: mx.conv2d(rows, self.conv_shortcut.weight))

    def _output(self, norm: Fitted, hidden: RowWindow, residual: RowWindow) -> RowWindow:
        out = hidden.map(norm.silu).convolve(self.conv2.weight)
        top, bottom = max(residual.top, out.top), min(residual.bottom, out.bottom)
        bias = self.conv2.bias + self.conv_shortcut.bias if "conv_shortcut" in self else self.conv2.bias
        added = residual.crop(top, bottom).rows
        return out.crop(top, bottom).map(lambda rows: _added(rows, added, bias))


def attend_pixels(q: mx.array, k: mx.array, v: mx.array, scheduler: TileScheduler | None) -> mx.array:
    """No device has a fused kernel for a head this wide, so scores are held in memory: chunks of queries bound them."""
    scale = q.shape[-1] ** -0.5
    if on_cpu():
        return softmax_attention(q, k, v, scale)
    chunk = max(1, (SCORES // 4 if scheduler else SCORES) // (q.shape[0] * q.shape[2]))
    attended = []
    for first in range(0, q.shape[2], chunk):
        queries = q[:, :, first : first + chunk]
        attended.append(mx.fast.scaled_dot_product_attention(queries, k, v, scale=scale))
        if scheduler:
            scheduler.submit(attended[-1])
    return attended[0] if len(attended) == 1 else mx.concatenate(attended, axis=2)


class Attention(nn.Module):
    """A single head over all pixels, as wide as there are channels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = [nn.Linear(channels, channels)]

    def __call__(self, x: Materialized) -> Materialized:
        picture = x.whole()
        n, height, width, channels = picture.shape
        tokens = self.group_norm.fit(x)(picture).reshape(n, 1, height * width, channels)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        out = self.to_out[0](attend_pixels(q, k, v, x.scheduler))
        return Materialized([picture + out.reshape(picture.shape)], x.scheduler)


class MidBlock(nn.Module):
    def __init__(self, channels: int, norm: Callable[[int], Norm], attention: nn.Module | None) -> None:
        super().__init__()
        self.resnets = [ResnetBlock(channels, channels, norm) for _ in range(2)]
        if attention is not None:
            self.attentions = [attention]

    def __call__(self, x: TiledImage) -> Materialized:
        out = self.resnets[0](x)
        if "attentions" in self:
            out = self.attentions[0](out)
        return self.resnets[1](out)


class Downsample(nn.Module):
    """Half the size: a convolution with stride 2, padded below and on the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def __call__(self, x: TiledImage) -> TiledImage:
        return Lazy(
            self._halved, (x, lambda top, bottom: (2 * top, 2 * bottom + 1)), height=(x.height - 2) // 2 + 1
        )

    def _halved(self, x: RowWindow) -> RowWindow:
        below = int(x.bottom == x.height)
        rows = mx.pad(x.rows, [(0, 0), (0, below), (0, 1), (0, 0)])
        return RowWindow(self.conv(rows), x.top // 2, (x.height - 2) // 2 + 1)


class Upsample(nn.Module):
    """Twice the size: nearest-neighbour upsampling, then a 3 x 3 convolution.

    The nine taps over doubled pixels fall on at most four different ones, so the result is four 2 x 2 convolutions of
    the small picture, one for each place in a 2 x 2 square: less than half the work, and the doubled picture is never
    made.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def __call__(self, x: TiledImage) -> TiledImage:
        make = partial(self._doubled, self._kernels())
        return Lazy(make, (x, lambda top, bottom: (top // 2 - 1, (bottom + 1) // 2 + 1)), height=2 * x.height)

    def _kernels(self) -> mx.array:
        """[4 x outputs, 2, 2, inputs], the squares' places in reading order."""
        w = self.conv.weight.astype(mx.float32)
        rows = [mx.stack([w[:, 0], w[:, 1] + w[:, 2]], 1), mx.stack([w[:, 0] + w[:, 1], w[:, 2]], 1)]
        places = [
            place
            for r in rows
            for place in (
                mx.stack([r[:, :, 0], r[:, :, 1] + r[:, :, 2]], 2),
                mx.stack([r[:, :, 0] + r[:, :, 1], r[:, :, 2]], 2),
            )
        ]
        return mx.concatenate(places, axis=0).astype(self.conv.weight.dtype)

    def _doubled(self, kernels: mx.array, x: RowWindow) -> RowWindow:
        padded, top = x.padded(), x.top + (x.top > 0)
        n, width, channels = len(x.rows), x.rows.shape[2], len(self.conv.weight)
        length = padded.shape[1] - 2
        sums = mx.conv2d(padded, kernels, padding=(0, 1))
        # Place (y, x) of square (row, column) lies in sums at (row + y, column + x), as that place's features. A view can
        # express it, so the bias is added and the squares are laid out in one pass.
        member, line, column = (
            (width + 1) * (length + 1) * 4 * channels,
            (width + 1) * 4 * channels,
            4 * channels,
        )
        squares = mx.as_strided(
            sums,
            (n, length, 2, width, 2, channels),
            (member, line, line + 2 * channels, column, column + channels, 1),
        )
        doubled = (squares + self.conv.bias).reshape(n, 2 * length, 2 * width, channels)
        return RowWindow(doubled, 2 * top, 2 * x.height)


def finish(x: Materialized, norm: Norm, conv: nn.Conv2d) -> Materialized:
    """The last norm and convolution of an encoder or a decoder."""
    fitted = norm.fit(x)
    return materialize(Lazy(lambda w: w.map(fitted.silu).convolve(conv.weight, conv.bias), (x, halo(1))))
