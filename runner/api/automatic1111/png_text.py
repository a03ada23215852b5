"""Text in PNG files, read without decoding the picture."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_TEXT = 1024**2


def png_texts(data: bytes) -> dict[str, str]:
    """The texts by their keywords; empty for what is not a PNG file."""
    texts: dict[str, str] = {}
    for kind, content in _chunks(data):
        keyword, _, rest = content.partition(b"\0")
        text = None
        if kind == b"tEXt":
            text = rest.decode("latin-1")
        elif kind == b"zTXt":
            text = _inflated(rest[1:]).decode("latin-1")
        elif kind == b"iTXt" and len(rest) > 2:
            _, _, translated = rest[2:].partition(b"\0")
            _, _, body = translated.partition(b"\0")
            text = (_inflated(body) if rest[0] else body).decode("utf-8", "replace")
        if text is not None:
            texts[keyword.decode("latin-1")] = text
    return texts


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        return
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _inflated(data: bytes) -> bytes:
    """At most so much of it: a few bytes may stand for gigabytes."""
    try:
        return zlib.decompressobj().decompress(data, MOST_TEXT)
    except zlib.error:
        return b""
