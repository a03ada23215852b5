"""The header of a GGUF file, versions 2 and 3: metadata and the table of tensors. No MLX, no numpy.

Nothing that the file declares is trusted: counts, lengths and offsets are compared with the size of the file before
anything is made of them. Headers of remote files, fetched by range, are read by the same code.
"""

import os
import struct
import sys
from array import array
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from models.checkpoint.gguf.texts import Texts, decode
from models.checkpoint.gguf.types import OTHER_TYPES, TYPES, TensorType
from models.checkpoint.safetensors import WeightsError
from models.files import check_regular, open_regular

MAGIC, VERSIONS = b"GGUF", (2, 3)
LONGEST_HEADER = 256 * 1024**2
FIRST_READ = 8 * 1024**2
LONGEST_KEY = 65_535
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 2**20
LARGEST_TENSOR = 2**60
_STRING, _ARRAY = 8, 9
# The types of metadata that have a fixed size, as `struct` and `array` name them.
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_SMALLEST_ENTRY = 13  # a key of no bytes, its type, one byte
_SMALLEST_TENSOR = 32


@dataclass(frozen=True)
class Tensor:
    """`shape` has the rows first; `start` counts from the beginning of the file."""

    type: TensorType
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return self.type.nbytes(prod(self.shape))


@dataclass(frozen=True)
class GGUFHeader:
    """Values of `metadata` are numbers, booleans and text, arrays of numbers, and Texts. `raw` are its bytes."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    raw: memoryview


class HeaderCut(Exception):
    """The bytes at hand end before the header does; with at least `needed` bytes it may be read."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


def read_gguf_header(path: Path) -> GGUFHeader:
    """The header of a file; a WeightsError names the file if it is cut short or damaged."""
    try:
        status = check_regular(path)
        return _read(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(8)
def _read(path: Path, size: int, modified: int, inode: int) -> GGUFHeader:
    """Kept while the file stays the same: one command asks several times."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        raw = file.read(FIRST_READ)
        while True:
            try:
                return parse_gguf_header(raw, size, str(path))
            except HeaderCut as cut:
                more = file.read(max(cut.needed, 4 * len(raw)) - len(raw))
                if not more:
                    raise WeightsError(f"{path} is cut short: its header does not end") from None
                raw += more


def parse_gguf_header(raw: bytes, size: int, file_name: str) -> GGUFHeader:
    """The header of a file of `size` bytes that begins with `raw`; HeaderCut if it is longer than that."""
    cursor = _Cursor(raw, size, file_name)
    if raw[:4] != MAGIC:
        raise WeightsError(f"{file_name} is not a GGUF file: it begins with {bytes(raw[:4])!r}")
    cursor.at = 4
    version = cursor.number("<I")
    if version not in VERSIONS:
        big = f"{version} (big-endian)" if version & 0xFFFF == 0 and version else version
        raise WeightsError(f"{file_name} has GGUF version {big}; 2 and 3, little-endian, can be read")
    tensors = cursor.count("tensors", _SMALLEST_TENSOR)
    entries = cursor.count("entries of metadata", _SMALLEST_ENTRY)
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = cursor.text("a name", LONGEST_KEY)
        if key in metadata:
            raise WeightsError(f"{file_name} is damaged: its metadata has {key[:200]!r} twice")
        metadata[key] = cursor.value(key)
    table = _tensor_table(cursor, tensors)
    alignment = _alignment(metadata, file_name)
    start = -(-cursor.at // alignment) * alignment
    return GGUFHeader(metadata, _placed(table, start, alignment, size, file_name), cursor.raw[: cursor.at])


class _Cursor:
    def __init__(self, raw: bytes, size: int, file_name: str) -> None:
        self.raw = memoryview(raw)
        self.at = 0
        self.size = size
        self.file_name = file_name

    def damaged(self, what: str) -> WeightsError:
        return WeightsError(f"{self.file_name} is cut short or damaged: {what}")

    def need(self, length: int, what: str) -> None:
        """That many more bytes, in the file and at hand."""
        end = self.at + length
        if end > self.size:
            raise self.damaged(f"{what} would take {length:,} bytes, and {self.size - self.at:,} are left")
        if end > LONGEST_HEADER:
            raise self.damaged(f"its header has more than {LONGEST_HEADER:,} bytes")
        if end > len(self.raw):
            raise HeaderCut(end)

    def number(self, form: str) -> int:
        return int(self._scalar(form, "a number"))

    def _scalar(self, form: str, what: str) -> Any:
        length = struct.calcsize(form)
        self.need(length, what)
        self.at += length
        return struct.unpack_from(form, self.raw, self.at - length)[0]

    def count(self, what: str, smallest: int) -> int:
        """A number of things that take at least `smallest` bytes each."""
        count = self.number("<Q")
        if count * smallest > min(self.size, LONGEST_HEADER) - self.at:
            raise self.damaged(f"it declares {count:,} {what}, and {self.size - self.at:,} bytes are left")
        return count

    def text(self, what: str, longest: int = LONGEST_HEADER) -> str:
        length = self.number("<Q")
        if length > longest:
            raise self.damaged(f"{what} has {length:,} bytes; at most {longest:,} are allowed")
        self.need(length, what)
        self.at += length
        return decode(self.raw[self.at - length : self.at], self.file_name)

    def value(self, key: str) -> Any:
        kind = self.number("<I")
        if kind == _STRING:
            return self.text(key[:200])
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self.damaged(f"{key[:200]!r} has the unknown type {kind}")
        return self._scalar("<" + _SCALARS[kind], key[:200])

    def _array(self, key: str) -> Any:
        kind = self.number("<I")
        if kind == _ARRAY:
            raise self.damaged(f"{key[:200]!r} is an array of arrays, which no model uses")
        if kind == _STRING:
            return self._texts(self.count(f"strings in {key[:200]!r}", 8))
        if kind not in _SCALARS:
            raise self.damaged(f"{key[:200]!r} is an array of the unknown type {kind}")
        size = struct.calcsize("<" + _SCALARS[kind])
        count = self.count(f"numbers in {key[:200]!r}", size)
        self.need(count * size, key[:200])
        self.at += count * size
        return _numbers(_SCALARS[kind], self.raw[self.at - count * size : self.at])

    def _texts(self, count: int) -> Texts:
        starts: list[int] = []
        raw, at, end, unpack = self.raw, self.at, len(self.raw), struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > end:
                break
            starts.append(at)
            at += 8 + unpack(raw, at)[0]
        self.need(max(at, self.at + 8 * (count - len(starts))) - self.at, "an array of strings")
        if len(starts) < count:
            raise HeaderCut(at + 8 * (count - len(starts)))
        self.at = at
        return Texts(raw, starts, self.file_name)


def _numbers(code: str, raw: memoryview) -> "array[int] | array[float] | list[bool]":
    if code == "?":
        return [byte != 0 for byte in raw]
    values: array[Any] = array(code)
    values.frombytes(raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _tensor_table(cursor: _Cursor, count: int) -> dict[str, tuple[TensorType, tuple[int, ...], int]]:
    """Type, shape and offset of each tensor, offsets as in the file."""
    table: dict[str, tuple[TensorType, tuple[int, ...], int]] = {}
    for _ in range(count):
        name = cursor.text("a name", LONGEST_KEY)
        if name in table:
            raise cursor.damaged(f"it has the tensor {name[:200]!r} twice")
        dimensions = cursor.number("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise cursor.damaged(
                f"{name[:200]!r} has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are allowed"
            )
        shape = tuple(cursor.number("<Q") for _ in range(dimensions))[::-1]
        kind, offset = cursor.number("<I"), cursor.number("<Q")
        if kind not in TYPES:
            label = OTHER_TYPES.get(kind, f"number {kind}")
            types = ", ".join(each.name for each in TYPES.values())
            raise WeightsError(
                f"{cursor.file_name}: {name[:200]!r} is stored as {label}, which cannot be read; these can: {types}"
            )
        type_ = TYPES[kind]
        if not 0 < prod(shape) <= LARGEST_TENSOR or shape[-1] % type_.values:
            raise cursor.damaged(
                f"{name[:200]!r} has the shape {list(shape)}; {type_.name} needs rows of a multiple of {type_.values}"
            )
        table[name] = type_, shape, offset
    return table


def _alignment(metadata: dict[str, Any], file_name: str) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or not 8 <= value <= MAX_ALIGNMENT or value % 8:
        raise WeightsError(
            f"{file_name} is damaged: general.alignment is {str(value)[:80]}; a multiple of 8 up to {MAX_ALIGNMENT:,} is needed"
        )
    return value


def _placed(
    table: dict[str, tuple[TensorType, tuple[int, ...], int]],
    start: int,
    alignment: int,
    size: int,
    file_name: str,
) -> dict[str, Tensor]:
    """The tensors at their places in the file: aligned, inside it, and apart from each other."""
    tensors = {name: Tensor(type_, shape, start + offset) for name, (type_, shape, offset) in table.items()}
    end, before = start, "the header"
    for name, tensor in sorted(tensors.items(), key=lambda each: each[1].start):
        if (tensor.start - start) % alignment:
            raise WeightsError(f"{file_name} is damaged: {name[:200]!r} is not aligned to {alignment} bytes")
        if tensor.start < end:
            raise WeightsError(f"{file_name} is damaged: {name[:200]!r} overlaps {before[:200]}")
        end, before = tensor.start + tensor.nbytes, repr(name)
        if end > size:
            raise WeightsError(
                f"{file_name} is cut short: {name[:200]!r} ends at byte {end:,}, and the file has {size:,}"
            )
    return tensors
