"""The arrays that blocks are places in: keys and values of all layers, whole or quantized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import cache as mlx_cache

from models.kernels import paged_write
from models.kernels.gpu import on_cuda
from models.kernels.paged_attention import Shape
from models.language.cache.kv_cache import Cache
from models.language.paged.table import BLOCK

# What a pool begins with; it grows with what is written to it.
SMALLEST = 64  # blocks
BEGINNING_ON_A_CARD = 8 * 2**30  # bytes


@dataclass(frozen=True)
class Layer:
    """What one layer keeps of a token. `bits` and `group`: of quantized keys and values."""

    heads: int
    key_size: int
    value_size: int
    dtype: mx.Dtype
    window: int | None = None
    bits: int | None = None
    group: int = 64

    def blank(self, blocks: int, size: int) -> list[mx.array]:
        """One array, or three of a quantized one: values, scales, biases; [block, head, token, channel]."""
        shape = (blocks, self.heads, BLOCK)
        if self.bits is None:
            return [mx.zeros((*shape, size), self.dtype)]
        scales = (*shape, size // self.group)
        packed = mx.zeros((*shape, size * self.bits // 32), mx.uint32)
        return [packed, mx.zeros(scales, self.dtype), mx.zeros(scales, self.dtype)]

    @property
    def writable(self) -> bool:
        """Whether kernels write to it in place."""
        bits, group = (self.bits, self.group) if self.bits else (0, 0)
        return self.key_size == self.value_size and paged_write.works(
            Shape(self.key_size, 1, self.dtype, BLOCK, bits, group)
        )


def layers_of(cache: Cache) -> list[Layer] | None:
    """What each layer keeps, by a cache that has seen a token; None if one is of another kind than keys and values."""
    layers = []
    for layer in cache:
        window = None
        if type(layer) is mlx_cache.RotatingKVCache:
            if layer.keep:
                return None
            window = layer.max_size
        elif not isinstance(layer, mlx_cache.KVCache | mlx_cache.QuantizedKVCache):
            return None
        if layer.keys is None:
            return None
        if isinstance(layer, mlx_cache.QuantizedKVCache):
            keys, scales, _ = layer.keys
            key_size, value_size = (x[0].shape[-1] * 32 // layer.bits for x in (layer.keys, layer.values))
            bits, group = layer.bits, layer.group_size
            layers.append(Layer(keys.shape[1], key_size, value_size, scales.dtype, None, bits, group))
        else:
            keys, values = layer.keys, layer.values
            layers.append(Layer(keys.shape[1], keys.shape[-1], values.shape[-1], keys.dtype, window))
    return layers


class KeyValuePool:
    """`limit`: blocks there may ever be. Kernels write to the arrays in place on a card. The arrays double with what is
    written, up to the limit, layer by layer; on a card they begin with what most need."""

    def __init__(self, layers: Sequence[Layer], limit: int) -> None:
        self.layers = list(layers)
        self.limit = limit
        self._in_place = all(
            layer.writable and paged_write.REPLACE_ROWS.works(layer.dtype) for layer in layers
        )
        self.keys: list[list[mx.array]] = []
        self.values: list[list[mx.array]] = []
        self._located: tuple[mx.array, dict[int, mx.array]] | None = None
        self.clear()

    def clear(self) -> None:
        """Blocks without content."""
        self.blocks = min(self._beginning(), self.limit)
        self.keys = [layer.blank(self.blocks, layer.key_size) for layer in self.layers]
        self.values = [layer.blank(self.blocks, layer.value_size) for layer in self.layers]
        self._unfinished: dict[int, mx.array] = {}  # what the last write to each layer has returned

    def _beginning(self) -> int:
        if not on_cuda():
            return SMALLEST
        one = [
            array.nbytes
            for layer in self.layers
            for array in layer.blank(1, layer.key_size + layer.value_size)
        ]
        return max(BEGINNING_ON_A_CARD // sum(one), SMALLEST)

    @property
    def bytes_per_block(self) -> int:
        return self.nbytes // self.blocks

    @property
    def arrays(self) -> list[mx.array]:
        leaves: list[Any] = tree_flatten([self.keys, self.values])  # type: ignore[assignment]
        return [leaf for _, leaf in leaves]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    @property
    def bytes_written_anew(self) -> int:
        """What may be in memory twice until writes are evaluated: all of it, where they are not in place."""
        return 0 if self._in_place else self.nbytes

    def reserve(self, blocks: int) -> None:
        """Have at least so many."""
        if blocks <= self.blocks:
            return
        before, self.blocks = self.blocks, min(max(blocks, 2 * self.blocks), self.limit)
        for at, layer in enumerate(self.layers):
            for arrays, size in ((self.keys[at], layer.key_size), (self.values[at], layer.value_size)):
                for place, blank in enumerate(layer.blank(self.blocks, size)):
                    blank[:before] = arrays[place]
                    arrays[place] = blank
            mx.eval(self.keys[at], self.values[at])  # so that only one layer is in memory twice

    def write(
        self,
        layer: int,
        blocks: mx.array,
        offsets: mx.array,
        keys: mx.array,
        values: mx.array,
        place: tuple[int, int] | None = None,
    ) -> mx.array | None:
        """Keys and values [token, head, channel] of tokens at these places; `place`: block and offset of a single one. If a
        zero is returned, it must be added to the numbers of the blocks by what reads them in the same evaluation."""
        if self._in_place:
            kind, (own_keys, own_values) = self.layers[layer].dtype, (self.keys[layer], self.values[layer])
            zero = paged_write.write(
                own_keys, own_values, keys.astype(kind), values.astype(kind), blocks, offsets
            )
            self._unfinished[layer] = zero
            return zero
        for arrays, new in ((self.keys[layer], keys), (self.values[layer], values)):
            for at, part in enumerate(self._stored(layer, new)):
                array = arrays[at]
                if place is not None:
                    block, offset = place
                    array[block : block + 1, :, offset : offset + 1] = part[:, :, None]
                    continue
                rows = array.reshape(-1, array.shape[-1])
                rows[self._rows(blocks, offsets, array.shape[1])] = part
                arrays[at] = rows.reshape(array.shape)
        return None

    def evaluate(self) -> None:
        """Finish all writes."""
        mx.eval(self.arrays, self._unfinished)
        self._unfinished = {}

    def _rows(self, blocks: mx.array, offsets: mx.array, heads: int) -> mx.array:
        """Where the channels of tokens' heads are, if blocks, heads and tokens are counted as one; the same for the layers
        of a step."""
        if self._located is None or self._located[0] is not blocks:
            self._located = (blocks, {})
        places = self._located[1]
        if heads not in places:
            places[heads] = (blocks[:, None] * heads + mx.arange(heads)) * BLOCK + offsets[:, None]
        return places[heads]

    def _stored(self, layer: int, x: mx.array) -> tuple[mx.array, ...]:
        spec = self.layers[layer]
        if spec.bits is None:
            return (x.astype(spec.dtype),)
        return tuple(mx.quantize(x, group_size=spec.group, bits=spec.bits))

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy whole blocks, each pair from and to."""
        if not pairs:
            return
        sources, targets = (mx.array(list(places)) for places in zip(*pairs, strict=True))
        self._replace(targets, [array[sources] for array in self.arrays])

    def wipe(self, blocks: Sequence[int]) -> None:
        if blocks:
            zeros = [mx.zeros((len(blocks), *array.shape[1:]), array.dtype) for array in self.arrays]
            self._replace(mx.array(list(blocks), mx.int32), zeros)

    def _replace(self, targets: mx.array, parts: Sequence[mx.array]) -> None:
        if self._in_place:
            mx.async_eval(
                [paged_write.replace(*pair, targets) for pair in zip(self.arrays, parts, strict=True)]
            )
            return
        for array, part in zip(self.arrays, parts, strict=True):
            array[targets] = part

    def export(self, block: int) -> list[mx.array]:
        """A block's content of all layers, in arrays of its own."""
        parts = [array[block] * 1 for array in self.arrays]
        mx.eval(parts)
        return parts

    def restore(self, block: int, parts: Sequence[mx.array]) -> None:
        """What `export` has returned, to any block."""
        self._replace(mx.array([block], mx.int32), [part[None] for part in parts])
