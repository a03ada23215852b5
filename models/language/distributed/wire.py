"""Length-prefixed messages over a socket between two trusted processes. No MLX."""

import socket
import struct
from typing import TypeVar

from msgspec import msgpack

LENGTH = struct.Struct("<I")
T = TypeVar("T")


class RankDesync(RuntimeError):
    """The ranks are no longer in step, or one of them has ended."""


class MessageSocket:
    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(True)
        self._socket = connected

    def send(self, raw: bytes) -> None:
        try:
            self._socket.sendall(LENGTH.pack(len(raw)) + raw)
        except OSError as error:
            raise RankDesync(f"another rank has closed the connection: {error.strerror or error}") from error

    def receive(self, kind: type[T]) -> T | None:
        """The next message, decoded by msgspec; None when the other end has been closed."""
        head = self._read(LENGTH.size)
        raw = head and self._read(LENGTH.unpack(head)[0])
        return msgpack.decode(raw, type=kind) if raw else None

    def _read(self, size: int) -> bytes:
        """Exactly `size` bytes; none if the other end closes first."""
        buffer = bytearray()
        while len(buffer) < size:
            try:
                part = self._socket.recv(min(size - len(buffer), 1 << 20))
            except ConnectionError:
                return b""
            if not part:
                return b""
            buffer += part
        return bytes(buffer)

    def close(self) -> None:
        self._socket.close()
