"""The tensors of a GGUF file as MLX has them: quantized layers repacked, without loss where MLX has the layout.

Read piece by piece, on several threads, into arrays that MLX owns, so loading takes little more memory than the result.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.gguf.blocks import dequantize
from models.checkpoint.gguf.groups import Bytes
from models.checkpoint.gguf.header import Tensor, read_gguf_header
from models.checkpoint.gguf.pack import pack_rows
from models.checkpoint.gguf.shard import Edit, GGUFShard, Precision
from models.checkpoint.gguf.types import BF16, F16, GROUP
from models.checkpoint.safetensors import WeightsError
from models.files import open_regular

PIECE = 2**20  # small enough for a processor's caches
THREADS = 8  # numpy works beside itself
HALVES = {"float16": mx.float16, "bfloat16": mx.bfloat16}

Tensors = dict[str, mx.array]
T = TypeVar("T")


def read_tensors(shard: GGUFShard, precision: Precision) -> tuple[Tensors, float]:
    """The tensors of a file under their names in the checkpoint, and the largest error of a layer that MLX has no layout
    for and that is quantized again."""
    header, names = read_gguf_header(shard.path), shard.names or {}
    tensors: Tensors = {}
    largest = 0.0
    try:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS), thread_name_prefix="gguf") as pool:
            for key, name in names.items():
                source = _Source(shard.path, header.tensors[key], shard.edits.get(key), pool)
                parts, error = _read(source, name, shard, precision)
                tensors |= parts
                largest = max(largest, error)
    except OSError as error:
        raise WeightsError(f"{shard.path} cannot be read: {error.strerror or error}") from error
    return tensors, largest


def unpacked_size(shards: Sequence[GGUFShard]) -> int:
    """Bytes of all tensors in float32."""
    return 4 * sum(prod(tensor.shape) for shard in shards for tensor in _chosen(shard))


def packed_layers(shards: Sequence[GGUFShard]) -> int:
    return sum(
        tensor.type.packing is not None for shard in shards if not shard.is_tower for tensor in _chosen(shard)
    )


def _chosen(shard: GGUFShard) -> Iterator[Tensor]:
    header = read_gguf_header(shard.path)
    return (header.tensors[key] for key in shard.names or {})


def _read(source: "_Source", name: str, shard: GGUFShard, precision: Precision) -> tuple[Tensors, float]:
    if precision == "unpacked" or shard.is_tower or source.tensor.type.packing is None:
        value = _floats(source, name, shard, precision)
        mx.eval(value)
        return {name: value}, 0.0
    dtype = HALVES[shard.half] if precision == "half" else mx.float32
    weight, scales, biases, error = _packed(source)
    parts = {"weight": weight, "scales": scales.astype(dtype), "biases": biases.astype(dtype)}
    mx.eval(parts)
    layer = name.removesuffix("weight")
    return {layer + part: value for part, value in parts.items()}, error


class _Source:
    """A tensor in a file, in pieces of whole rows, with its edit undone."""

    def __init__(self, path: Path, tensor: Tensor, edit: Edit | None, pool: ThreadPoolExecutor) -> None:
        self.path = path
        self.pool = pool
        self.tensor = tensor
        self.edit = edit
        self.is_vector = len(tensor.shape) == 1
        self.columns = tensor.shape[-1]
        self.rows = prod(tensor.shape[:-1])
        self.shape = (1, *tensor.shape) if edit is not None and edit.kind == "flat" else tensor.shape

    def pieces(self, convert: Callable[[slice, Bytes], T]) -> list[T]:
        """What `convert` makes of each piece, on several threads: of its rows, and their bytes, [rows, bytes of a row]."""
        step = max(PIECE // self._width, 1)
        if self.edit is not None and self.edit.kind == "pairs":
            step = self.rows  # rows change places across the tensor, which is one of the smaller ones
        slices = [slice(first, min(first + step, self.rows)) for first in range(0, self.rows, step)]
        return list(self.pool.map(lambda rows: convert(rows, self._edited(self._bytes(rows))), slices))

    @property
    def _width(self) -> int:
        return self.tensor.type.nbytes(self.columns)

    def _bytes(self, rows: slice) -> Bytes:
        raw = np.empty((rows.stop - rows.start, self._width), np.uint8)
        with open_regular(self.path) as file:
            file.seek(self.tensor.start + rows.start * self._width)
            if file.readinto(raw.data) != raw.size:  # type: ignore[attr-defined]
                raise WeightsError(f"{self.path} was cut short while it was read")
        return raw

    def _edited(self, raw: Bytes) -> Bytes:
        if self.edit is None or self.edit.kind != "pairs":
            return raw
        # A vector's elements are its rows.
        rows = raw.reshape(self.columns, -1) if self.is_vector else raw
        rows = rows.reshape(self.edit.heads, -1, 2, rows.shape[-1]).swapaxes(1, 2)
        return np.ascontiguousarray(rows).reshape(raw.shape)


def _floats(source: _Source, name: str, shard: GGUFShard, precision: Precision) -> mx.array:
    """Stored numbers as they are, everything else through float32."""
    stored = {F16: mx.float16, BF16: mx.bfloat16}.get(source.tensor.type)
    dtype = HALVES[shard.half] if precision == "half" else mx.float32
    if stored is not None and stored == dtype:
        array, view = _owned(source.shape, np.uint16)

        def copy(rows: slice, raw: Bytes) -> None:
            view.reshape(source.rows, -1)[rows] = raw.view("<u2")

        source.pieces(copy)
        return array.view(dtype)
    array, values = _owned(source.shape, np.float32)
    flat = values.reshape(source.rows, -1)

    def convert(rows: slice, raw: Bytes) -> None:
        flat[rows] = dequantize(source.tensor.type, raw.reshape(-1)).reshape(len(raw), -1)

    source.pieces(convert)
    if source.edit is not None and source.edit.kind == "plus_one":
        flat -= 1
    return array.astype(dtype)


def _packed(source: _Source) -> tuple[mx.array, mx.array, mx.array, float]:
    packing = source.tensor.type.packing
    assert packing is not None
    leading, columns = source.shape[:-1], source.columns
    weight, words = _owned((*leading, columns * packing.bits // 32), np.uint32)
    scales, scale_view = _owned((*leading, columns // GROUP), np.float32)
    biases, bias_view = _owned((*leading, columns // GROUP), np.float32)

    def convert(rows: slice, raw: Bytes) -> float:
        piece = pack_rows(source.tensor.type, raw)
        words.reshape(source.rows, -1)[rows] = piece.weight
        scale_view.reshape(source.rows, -1)[rows] = piece.scales
        bias_view.reshape(source.rows, -1)[rows] = piece.biases
        return piece.error

    return weight, scales, biases, max(source.pieces(convert))


def _owned(shape: tuple[int, ...], dtype: type[np.generic]) -> tuple[mx.array, NDArray]:
    """An array of MLX, and its memory as numpy sees it: a copy of a large tensor would be held beside it. Made by the
    processor, so that it is memory of the host, which a GPU reads when it is used."""
    array = mx.zeros(shape, getattr(mx, np.dtype(dtype).name), stream=mx.cpu)
    mx.eval(array)
    return array, np.array(array, copy=False)
