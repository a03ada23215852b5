"""The strings in a GGUF's header. No MLX, no numpy."""

import re
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import overload

from models.checkpoint.safetensors import WeightsError


class Texts(Sequence[str]):
    """An array of strings, decoded one by one: vocabularies have hundreds of thousands, which most readers skip."""

    def __init__(self, raw: memoryview, starts: list[int], file_name: str) -> None:
        self._raw = raw
        self._starts = starts  # of the length before each string
        self._file_name = file_name

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        start = self._starts[index]
        (length,) = struct.unpack_from("<Q", self._raw, start)
        return decode(self._raw[start + 8 : start + 8 + length], self._file_name)

    def find(self, text: str) -> int | None:
        """The place of a string, without decoding the others."""
        wanted = text.encode()
        found = re.compile(re.escape(struct.pack("<Q", len(wanted)) + wanted)).finditer(self._raw)
        for match in found:
            place = bisect_left(self._starts, match.start())
            if place < len(self) and self._starts[place] == match.start():
                return place
        return None


def decode(raw: memoryview, file_name: str) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise WeightsError(
            f"{file_name} is damaged: {bytes(raw[:40])!r} in its header is not UTF-8"
        ) from None
