"""Messages over a socket whose two ends trust each other, each with its length in front. No MLX."""

import socket
import struct
from typing import TypeVar

from msgspec import msgpack

LENGTH = struct.Struct("<I")
T = TypeVar("T")


class RankDesync(RuntimeError):
    """The processes no longer do the same, or one of them is gone."""


class MessageSocket:
    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._end = end

    def send(self, raw: bytes) -> None:
        try:
            self._end.sendall(LENGTH.pack(len(raw)) + raw)
        except OSError as error:
            raise RankDesync(f"another rank does not listen: {error.strerror or error}") from error

    def receive(self, kind: type[T]) -> T | None:
        """The next message, of a type that msgspec knows; None when the other end is closed."""
        head = self._read(LENGTH.size)
        raw = head and self._read(LENGTH.unpack(head)[0])
        return msgpack.decode(raw, type=kind) if raw else None

    def _read(self, size: int) -> bytes:
        """So many bytes; none when the other end closes before."""
        read = bytearray()
        while len(read) < size:
            try:
                part = self._end.recv(min(size - len(read), 1 << 20))
            except ConnectionError:
                return b""
            if not part:
                return b""
            read += part
        return bytes(read)

    def close(self) -> None:
        self._end.close()
