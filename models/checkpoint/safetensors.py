"""The header of a safetensors file, checked against the size of the file. No MLX.

Tensors are mapped lazily: a truncated file would fail in the middle of a picture, or crash the process. So the header is
checked before anything is mapped. Headers of remote files, fetched by range, are checked by the same code.
"""

import json
import os
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from models.files import open_regular

LONGEST_HEADER = 100_000_000
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "C64": 64,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "BOOL": 8,
}  # fmt: skip


class WeightsError(ValueError):
    """Weights that cannot be read, or that do not belong to the network."""


@dataclass(frozen=True)
class TensorInfo:
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Header:
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The tensors in `path`; a WeightsError names the file if it is cut short or damaged."""
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            length = header_length(file.read(8), status.st_size, str(path))
            raw = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    return parse_header(raw, status.st_size - 8 - length, str(path))


def header_length(prefix: bytes, size: int, file_name: str) -> int:
    """The length of the JSON header, from the first 8 bytes of a file of `size` bytes; `file_name` is for messages."""
    if len(prefix) < 8:
        raise WeightsError(f"{file_name} is not a safetensors file: it has {size} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if length > min(LONGEST_HEADER, size - 8):
        raise WeightsError(
            f"{file_name} is cut short or damaged: a header of {length} bytes in a file of {size}"
        )
    return int(length)


def parse_header(raw: bytes, available: int, file_name: str) -> Header:
    """A header's JSON, checked against the number of bytes that follow it."""
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file_name} is damaged: its header is not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise WeightsError(f"{file_name} is damaged: its header is not a JSON object")
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise WeightsError(f"{file_name} is damaged: __metadata__ in its header is not a JSON object")
    tensors = {key: _tensor(file_name, key, entry) for key, entry in entries.items()}
    _check_extent(file_name, tensors, available)
    return Header(tensors, {str(key): str(value) for key, value in metadata.items()})


def _tensor(file_name: str, name: str, entry: Any) -> TensorInfo:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole or not isinstance(dtype, str):
        raise WeightsError(
            f"{file_name} is damaged: {name[:200]} is declared without a valid dtype, shape and data_offsets"
        )
    if dtype not in BITS:
        raise WeightsError(f"{file_name}: {name[:200]} has the unknown type {dtype[:200]}")
    if end - start != (prod(shape) * BITS[dtype] + 7) // 8:
        raise WeightsError(
            f"{file_name} is damaged: {name[:200]} is {dtype} {list(shape)[:8]}, but takes {end - start} bytes"
        )
    return TensorInfo(dtype, shape, start, end)


def _check_extent(file_name: str, tensors: dict[str, TensorInfo], available: int) -> None:
    """Tensors are contiguous and fill the file to its end."""
    at = 0
    for info in sorted(tensors.values(), key=lambda info: (info.start, info.end)):
        if info.start != at:
            raise WeightsError(f"{file_name} is damaged: its tensors overlap or leave a gap at byte {at}")
        at = info.end
    if at > available:
        raise WeightsError(
            f"{file_name} is cut short: {at} bytes of tensors are declared, {available} are in the file"
        )
    if at < available:
        raise WeightsError(f"{file_name} is damaged: {available - at} bytes follow the last tensor")
