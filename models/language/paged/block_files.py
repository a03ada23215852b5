"""Blocks of keys and values as files of one folder: written whole or not at all, checked when they are read, the least recently
used removed beyond a limit. Bytes only: no MLX.

Several processes may use a folder at once. A file appears by being renamed, so a reader never meets half of one, and a file that
another process has removed is just absent.
"""

import contextlib
import errno
import hashlib
import io
import logging
import os
import re
import secrets
import stat
import threading
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt

log = logging.getLogger("diptych.text")

Payload = npt.NDArray[np.uint8]

MAGIC = b"DIPTYCH-KV\x00\x01"  # its last byte: the version of this format
CHECKSUM_BYTES = 16
NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}\.kv")
TEMPORARY = re.compile(r"\.[0-9a-f]{16}-[0-9a-f]{32}\.kv\.[0-9a-f]{16}\.tmp")
# Links are not followed, and opening a pipe does not wait.
UNFOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
STALE_S = 600.0  # after which a temporary file has been left behind by a process that ended
# Other processes write to the folder too: it is looked through again after this share of the limit has been written.
RESCAN_SHARE = 8


class BlockFiles:
    """The files of one model. `identity` says what the contents depend on beside the tokens, and how they are laid out; files of
    another identity are never read, but count towards `limit` and are removed in their turn."""

    def __init__(self, folder: Path, limit: int, identity: bytes, payload_bytes: int) -> None:
        """`folder` exists, and only its user can write to it."""
        self.folder = folder
        self.limit = limit
        self.damaged = 0
        self._identity = hashlib.blake2b(identity, digest_size=32).digest()
        self._payload_bytes = payload_bytes
        self.file_bytes = len(self._header(bytes(16))) + CHECKSUM_BYTES + payload_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by file name, least recently used first
        self._sound: set[str] = set()  # written by this process, or read and found in order
        self._written_since_scan = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, digest: bytes) -> bool:
        try:
            return _is_own_file((self.folder / self._name(digest)).lstat())
        except OSError:
            return False

    def is_sound(self, digest: bytes) -> bool:
        """Whether the file of this block need not be written again."""
        return self._name(digest) in self._sound and digest in self

    # -- reading

    def read(self, digest: bytes) -> Payload | None:
        """The payload; None if there is no file of this block, or one that is not exactly as it was written."""
        name = self._name(digest)
        try:
            payload = self._checked(name, digest)
        except FileNotFoundError:
            self._forget(name)
            return None
        except OSError as error:  # a link, a folder, a pipe, another user's file, a failing disk
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None  # the file may be in order
            log.debug("%s cannot be used: %s", self.folder / name, error)
            payload = None
        if payload is None:
            self.damaged += 1
            self._remove(name)
            return None
        with contextlib.suppress(OSError):  # its time of last use, for this process and the next
            os.utime(self.folder / name)
        with self._lock:
            self._sound.add(name)
            if name in self._sizes:
                self._sizes.move_to_end(name)
        return payload

    def _checked(self, name: str, digest: bytes) -> Payload | None:
        header = self._header(digest)
        with _opened(self.folder / name) as file:
            if os.fstat(file.fileno()).st_size != self.file_bytes:
                return None
            if file.read(len(header)) != header:
                return None
            checksum = file.read(CHECKSUM_BYTES)
            payload = np.empty(self._payload_bytes, np.uint8)
            if file.readinto(payload.data) != self._payload_bytes:
                return None
        return payload if _checksum(header, payload) == checksum else None

    # -- writing

    def write(self, digest: bytes, payload: Payload) -> None:
        """Raises OSError if it cannot be written. Removes other files first, so that the limit holds at any time."""
        name, header = self._name(digest), self._header(digest)
        if self._written_since_scan > self.limit // RESCAN_SHARE:
            self.scan()
        self._make_room(self.file_bytes)
        try:
            self._write_whole(name, header, payload)
        except FileNotFoundError:  # the user has removed the folder
            self.folder.mkdir(mode=0o700)
            self._write_whole(name, header, payload)
        with self._lock:
            self.bytes += self.file_bytes - self._sizes.pop(name, 0)
            self._sizes[name] = self.file_bytes
            self._sound.add(name)
        self._written_since_scan += self.file_bytes

    def _write_whole(self, name: str, header: bytes, payload: Payload) -> None:
        temporary = self.folder / f".{name}.{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | UNFOLLOWED
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(header)
                file.write(_checksum(header, payload))
                file.write(payload.data)
            os.replace(temporary, self.folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_room(self, size: int) -> None:
        while self.bytes + size > self.limit:
            with self._lock:
                oldest = next(iter(self._sizes), None)
            if oldest is None:
                return
            self._remove(oldest)

    # -- the folder

    def scan(self) -> None:
        """Learn what the folder holds; remove what exceeds the limit, and what was left half-written."""
        files: list[tuple[float, str, int]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = entry.stat(follow_symlinks=False)
                    if not _is_own_file(status):
                        continue
                    if NAME.fullmatch(entry.name):
                        files.append((status.st_mtime, entry.name, status.st_size))
                    elif TEMPORARY.fullmatch(entry.name) and status.st_mtime < time.time() - STALE_S:
                        os.unlink(entry.path)
        with self._lock:
            self._sizes = OrderedDict((name, size) for _, name, size in sorted(files))
            self.bytes = sum(self._sizes.values())
        self._written_since_scan = 0
        self._make_room(0)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):  # a folder of this name stays
            os.unlink(self.folder / name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        with self._lock:
            self.bytes -= self._sizes.pop(name, 0)
            self._sound.discard(name)

    # -- names and headers

    def _name(self, digest: bytes) -> str:
        return f"{self._identity[:8].hex()}-{digest.hex()}.kv"

    def _header(self, digest: bytes) -> bytes:
        return MAGIC + self._identity + digest + self._payload_bytes.to_bytes(8, "little")


def _opened(path: Path) -> io.FileIO:
    """A regular file of this user, open for reading; an OSError for anything else."""
    file = io.FileIO(os.open(path, os.O_RDONLY | UNFOLLOWED), "r")
    if _is_own_file(os.fstat(file.fileno())):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is not a file of this user", str(path))


def _is_own_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def _checksum(header: bytes, payload: Payload) -> bytes:
    digest = hashlib.blake2b(header, digest_size=CHECKSUM_BYTES)
    digest.update(payload.data)
    return digest.digest()
