"""The header of a safetensors file: what tensors it declares, read without loading any of them."""

import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import ModelNotSupported

# The format itself allows no larger header.
HEADER_LIMIT = 100_000_000

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64,
    "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as its file declares it: dtype in safetensors' spelling, shape, and bytes on disk."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file declares: its tensors in the file's order, and its metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path, shown: str | None = None) -> Header:
    """Read and check the header of a safetensors file.

    `shown` is how messages name the file. What is cut short, is no safetensors file, or declares tensors outside
    itself is a ModelNotSupported that says so.
    """
    shown = shown or str(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelNotSupported(f"{shown} is not a regular file")
            raw = _raw_header(file.read(8), status.st_size, file.read, shown)
    except OSError as error:
        raise ModelNotSupported(f"{shown} cannot be read: {error.strerror or error}") from error
    return parse_header(raw, status.st_size - 8 - len(raw), shown)


def _raw_header(prefix: bytes, size: int, read: Any, shown: str) -> bytes:
    if len(prefix) < 8:
        raise ModelNotSupported(f"{shown} is no safetensors file: it has only {size} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if length > HEADER_LIMIT:
        raise ModelNotSupported(
            f"{shown} is no safetensors file: its first 8 bytes announce a header of {length:,} bytes, "
            f"the format allows {HEADER_LIMIT:,}"
        )
    raw: bytes = read(length)
    if len(raw) < length:
        raise ModelNotSupported(
            f"{shown} is cut short inside its header ({size:,} bytes); download or copy it again"
        )
    return raw


def parse_header(raw: bytes, data_bytes: int, shown: str) -> Header:
    """The header's JSON, checked against the number of bytes that follow it."""
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelNotSupported(f"{shown} is no safetensors file: its header is not JSON ({error})") from None
    if not isinstance(entries, dict):
        raise ModelNotSupported(f"{shown} is no safetensors file: its header is not a JSON object")
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise ModelNotSupported(f"{shown}: __metadata__ in its header is not a JSON object")
    tensors = {name: _tensor(name, entry, data_bytes, shown) for name, entry in entries.items()}
    return Header(tensors, {key: value for key, value in metadata.items() if isinstance(value, str)})


def _tensor(name: str, entry: Any, data_bytes: int, shown: str) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole or not isinstance(dtype, str) or begin > end:
        raise ModelNotSupported(
            f"{shown}: its header describes tensor {name[:200]!r} in a way that cannot be read"
        )
    if end > data_bytes:
        raise ModelNotSupported(
            f"{shown} is cut short: tensor {name[:200]!r} ends at byte {end:,} of the data, but only {data_bytes:,} "
            "are there; download or copy the file again"
        )
    if dtype in BITS and math.prod(shape) * BITS[dtype] != (end - begin) * 8:
        raise ModelNotSupported(
            f"{shown}: tensor {name[:200]!r} is declared as {dtype} {list(shape)[:8]} but has {end - begin:,} bytes"
        )
    return TensorInfo(dtype, shape, end - begin)
