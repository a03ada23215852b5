"""What the encoder and the decoder of an autoencoder are built from: planes in, planes out, channels last.

Parameter names are the checkpoints'. A block works strip by strip where its input does; `again` asks it to compute
what it would otherwise keep in memory as often as it is needed.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from models.layers.attention import on_processor, softmax_attention
from models.vae.group_norm import Fitted, GroupNorm
from models.vae.tiling import Computed, Pace, Plane, Stored, Window, reach, store, store_together

SCORES = 2**26  # of attention are held at once on a GPU, at most; a fourth where memory is short


@partial(mx.compile, shapeless=True)
def _added(x: mx.array, y: mx.array, bias: mx.array) -> mx.array:
    return (x.astype(mx.float32) + y.astype(mx.float32) + bias.astype(mx.float32)).astype(x.dtype)


class ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def __call__(self, x: Plane, again: bool = False) -> Stored:
        if not again:
            x = store(x)
        first = self.norm1.fit(x)
        hidden: Plane = Computed(partial(self._hidden, first), (x, reach(1)))
        if again:
            second = self.norm2.fit(hidden, self.conv1.bias)
            return store(
                Computed(
                    lambda w: self._output(second, self._hidden(first, w), self._residual(w)), (x, reach(2))
                )
            )
        hidden, residual = self._stored(hidden, x)
        second = self.norm2.fit(hidden, self.conv1.bias)
        return store(Computed(partial(self._output, second), (hidden, reach(1)), (residual, reach(0))))

    def _stored(self, hidden: Plane, x: Plane) -> tuple[Plane, Plane]:
        """The hidden plane, and the one to add in the end: made on the way where it is narrower than what it is made of."""
        if "conv_shortcut" not in self:
            return store(hidden, release=False), x
        hidden, residual = store_together([hidden, Computed(self._residual, (x, reach(0)))])
        return hidden, residual

    def _hidden(self, norm: Fitted, x: Window) -> Window:
        """Without conv1's bias, which the second norm brings."""
        return x.map(norm.silu).convolve(self.conv1.weight)

    def _residual(self, x: Window) -> Window:
        """Without the shortcut's bias, which `_output` brings."""
        if "conv_shortcut" not in self:
            return x
        return x.map(lambda rows: mx.conv2d(rows, self.conv_shortcut.weight))

    def _output(self, norm: Fitted, hidden: Window, residual: Window) -> Window:
        out = hidden.map(norm.silu).convolve(self.conv2.weight)
        top, bottom = max(residual.top, out.top), min(residual.bottom, out.bottom)
        bias = self.conv2.bias + self.conv_shortcut.bias if "conv_shortcut" in self else self.conv2.bias
        added = residual.crop(top, bottom).rows
        return out.crop(top, bottom).map(lambda rows: _added(rows, added, bias))


class Attention(nn.Module):
    """One head over all pixels, of as many dimensions as there are channels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = [nn.Linear(channels, channels)]

    def __call__(self, x: Stored) -> Stored:
        picture = x.whole()
        n, height, width, channels = picture.shape
        tokens = self.group_norm.fit(x)(picture).reshape(n, 1, height * width, channels)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        out = self.to_out[0](self._attend(q, k, v, x.pace))
        return Stored([picture + out.reshape(picture.shape)], x.pace)

    def _attend(self, q: mx.array, k: mx.array, v: mx.array, pace: Pace | None) -> mx.array:
        """A head this wide has no fused kernel anywhere, so the scores are held: queries go in turns that bound them."""
        scale = q.shape[-1] ** -0.5
        if on_processor():
            return softmax_attention(q, k, v, scale)
        turn = max(1, (SCORES // 4 if pace else SCORES) // (q.shape[0] * q.shape[2]))
        seen = []
        for first in range(0, q.shape[2], turn):
            queries = q[:, :, first : first + turn]
            seen.append(mx.fast.scaled_dot_product_attention(queries, k, v, scale=scale))
            if pace:
                pace.follow(seen[-1])
        return seen[0] if len(seen) == 1 else mx.concatenate(seen, axis=2)


class MidBlock(nn.Module):
    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.resnets = [ResnetBlock(channels, channels, groups) for _ in range(2)]
        if attention:
            self.attentions = [Attention(channels, groups)]

    def __call__(self, x: Plane) -> Stored:
        out = self.resnets[0](x)
        if "attentions" in self:
            out = self.attentions[0](out)
        return self.resnets[1](out)


class Downsample(nn.Module):
    """Half the size: a convolution with stride 2, padded below and on the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def __call__(self, x: Plane) -> Plane:
        return Computed(
            self._halved, (x, lambda top, bottom: (2 * top, 2 * bottom + 1)), height=(x.height - 2) // 2 + 1
        )

    def _halved(self, x: Window) -> Window:
        below = int(x.bottom == x.height)
        rows = mx.pad(x.rows, [(0, 0), (0, below), (0, 1), (0, 0)])
        return Window(self.conv(rows), x.top // 2, (x.height - 2) // 2 + 1)


class Upsample(nn.Module):
    """Twice the size: every pixel doubled, then a 3 x 3 convolution.

    The nine taps over doubled pixels fall on at most four different ones, so the same sums are four 2 x 2
    convolutions of the small picture, one for each place a pixel takes in its 2 x 2 square: less than half the work,
    and the doubled picture never exists.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def __call__(self, x: Plane) -> Plane:
        make = partial(self._doubled, self._kernels())
        return Computed(
            make, (x, lambda top, bottom: (top // 2 - 1, (bottom + 1) // 2 + 1)), height=2 * x.height
        )

    def _kernels(self) -> mx.array:
        """[4 x outputs, 2, 2, inputs], the squares' places in the order of reading."""
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

    def _doubled(self, kernels: mx.array, x: Window) -> Window:
        edged, top = x.edged(), x.top + (x.top > 0)
        n, _, width, channels = x.rows.shape
        length = edged.shape[1] - 2
        sums = mx.conv2d(edged, kernels, padding=(0, 1))
        # Place (y, x) of square (row, column) lies in sums at (row + y, column + x), as features of that place: what a
        # view can say, so that the bias is added and the squares are laid out in one pass.
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
        return Window(doubled, 2 * top, 2 * x.height)
