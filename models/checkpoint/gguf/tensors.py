"""The tensors of a GGUF file as MLX has them: quantized layers repacked, without loss where MLX has the layout.

Read piece by piece into arrays that MLX owns, so loading takes little more memory than the result.
"""

import os
from collections.abc import Iterator, Sequence
from math import prod
from typing import BinaryIO

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.gguf.blocks import Bytes, dequantize
from models.checkpoint.gguf.header import Tensor, read_gguf_header
from models.checkpoint.gguf.pack import pack_rows
from models.checkpoint.gguf.shard import Edit, GGUFShard, Precision
from models.checkpoint.gguf.types import BF16, F16, GROUP
from models.checkpoint.safetensors import WeightsError
from models.files import open_regular

PIECE = 16 * 2**20
HALVES = {"float16": mx.float16, "bfloat16": mx.bfloat16}

Tensors = dict[str, mx.array]


def read_tensors(shard: GGUFShard, precision: Precision) -> tuple[Tensors, float]:
    """The tensors of a file under their names in the checkpoint, and the largest error of a layer that MLX has no layout
    for and that is quantized again."""
    header, names = read_gguf_header(shard.path), shard.names or {}
    tensors: Tensors = {}
    largest = 0.0
    try:
        with open_regular(shard.path) as file:
            for key, name in names.items():
                source = _Source(file, header.tensors[key], shard.edits.get(key))
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
    return sum(tensor.type.packing is not None for shard in shards for tensor in _chosen(shard))


def _chosen(shard: GGUFShard) -> Iterator[Tensor]:
    header = read_gguf_header(shard.path)
    return (header.tensors[key] for key in shard.names or {})


def _read(source: "_Source", name: str, shard: GGUFShard, precision: Precision) -> tuple[Tensors, float]:
    if precision == "unpacked" or source.tensor.type.packing is None:
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
    """A tensor in an open file, in pieces of whole rows, with its edit undone."""

    def __init__(self, file: BinaryIO, tensor: Tensor, edit: Edit | None) -> None:
        self.file = file
        self.tensor = tensor
        self.edit = edit
        self.is_vector = len(tensor.shape) == 1
        self.columns = tensor.shape[-1]
        self.rows = prod(tensor.shape[:-1])
        self.shape = (1, *tensor.shape) if edit is not None and edit.kind == "flat" else tensor.shape

    def pieces(self) -> Iterator[tuple[slice, Bytes]]:
        """The rows of a piece, and their bytes, [rows, bytes of a row]."""
        width = self.tensor.type.nbytes(self.columns)
        step = max(PIECE // width, 1)
        if self.edit is not None and self.edit.kind == "pairs":
            step = self.rows  # rows change places across the tensor, which is one of the smaller ones
        self.file.seek(self.tensor.start)
        for first in range(0, self.rows, step):
            rows = slice(first, min(first + step, self.rows))
            raw = np.empty((rows.stop - first, width), np.uint8)
            self._fill(raw)
            yield rows, self._edited(raw)

    def _fill(self, raw: Bytes) -> None:
        if self.file.readinto(raw.data) != raw.size:  # type: ignore[attr-defined]
            raise WeightsError(
                f"{self.file.name} was cut short while it was read ({os.fstat(self.file.fileno()).st_size:,} bytes)"
            )

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
        for rows, raw in source.pieces():
            view.reshape(source.rows, -1)[rows] = raw.view("<u2")
        return array.view(dtype)
    array, values = _owned(source.shape, np.float32)
    flat = values.reshape(source.rows, -1)
    for rows, raw in source.pieces():
        flat[rows] = dequantize(source.tensor.type, raw.reshape(-1)).reshape(len(raw), -1)
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
    largest = 0.0
    for rows, raw in source.pieces():
        piece = pack_rows(source.tensor.type, raw)
        words.reshape(source.rows, -1)[rows] = piece.weight
        scale_view.reshape(source.rows, -1)[rows] = piece.scales
        bias_view.reshape(source.rows, -1)[rows] = piece.biases
        largest = max(largest, piece.error)
    return weight, scales, biases, largest


def _owned(shape: tuple[int, ...], dtype: type[np.generic]) -> tuple[mx.array, NDArray]:
    """An array of MLX, and its memory as numpy sees it: a copy of a large tensor would be held beside it. Made by the
    processor, so that it is memory of the host, which a GPU reads when it is used."""
    array = mx.zeros(shape, getattr(mx, np.dtype(dtype).name), stream=mx.cpu)
    mx.eval(array)
    return array, np.array(array, copy=False)
