"""GGUF files written byte by byte, so that they can be wrong in every way."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint.gguf.types import TYPES

NUMBERS = {type_.name: number for number, type_ in TYPES.items()}
# Python's types as the format's, unless a value is a pair of a number of a type and a value.
UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10
FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
INT32 = 5
ALIGNMENT = 32

Stored = tuple[str, tuple[int, ...], bytes]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def typed(value: Any) -> tuple[int, bytes]:
    """The number of a value's type, and its bytes."""
    if isinstance(value, tuple):
        return value[0], struct.pack(FORMS[value[0]], value[1])
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return (UINT32, struct.pack("<I", value)) if value < 2**32 else (UINT64, struct.pack("<Q", value))
    if isinstance(value, float):
        return FLOAT32, struct.pack("<f", value)
    if isinstance(value, str | bytes):
        return STRING, text(value)
    return ARRAY, array(value)


def array(values: Sequence[Any]) -> bytes:
    kind = {bool: BOOL, int: INT32, float: FLOAT32, str: STRING, bytes: STRING}[
        type(values[0]) if values else str
    ]
    items = [text(value) if kind == STRING else struct.pack(FORMS[kind], value) for value in values]
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def entry(key: str, value: Any) -> bytes:
    kind, raw = typed(value)
    return text(key) + struct.pack("<I", kind) + raw


def header(
    metadata: Mapping[str, Any] | Sequence[tuple[str, Any]],
    tensors: Mapping[str, tuple[int, Sequence[int], int]],
    version: int = 3,
) -> bytes:
    """`tensors`: the number of a type, the shape with rows first, the offset."""
    pairs = list(metadata.items()) if isinstance(metadata, Mapping) else list(metadata)
    raw = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    raw += b"".join(entry(key, value) for key, value in pairs)
    for name, (kind, shape, offset) in tensors.items():
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        raw += text(name) + dimensions + struct.pack("<IQ", kind, offset)
    return raw


def write_gguf(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Stored], version: int = 3
) -> Path:
    """`tensors`: the name of a type, the shape with rows first, the bytes."""
    alignment = metadata.get("general.alignment", ALIGNMENT)
    table: dict[str, tuple[int, Sequence[int], int]] = {}
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        data += bytes(-len(data) % alignment)
        table[name] = NUMBERS[kind], shape, len(data)
        data += raw
    start = header(metadata, table, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + bytes(-len(start) % alignment) + data)
    return path


def stored(values: Any, kind: str = "F32") -> Stored:
    """An array as a tensor, in one of the types that are not blocks."""
    values = np.ascontiguousarray(values, np.float32)
    if kind == "BF16":
        raw = (values.view(np.uint32) >> 16).astype("<u2")
    else:
        raw = values.astype({"F32": "<f4", "F16": "<f2"}[kind])
    return kind, values.shape, raw.tobytes()
