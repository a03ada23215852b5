"""Locks between processes. The system releases those of a process that ends, however it ends."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock; waits for it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


class Writer:
    """This process, as those see it that read what it has begun to write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self.name = ""

    def begin(self) -> str:
        """Its name. From now on others know that it lives."""
        if not self.name:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            name = f"{os.getpid()}-{secrets.token_hex(8)}"
            self._descriptor = os.open(self._folder / name, os.O_CREAT | os.O_RDWR, 0o600)
            _lock(self._descriptor, wait=True)
            self.name = name
        return self.name

    def is_gone(self, name: str) -> bool:
        """Whether the process of this name has ended."""
        if name == self.name:
            return False
        path = self._folder / name
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            if not _lock(descriptor, wait=False):
                return False
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    def end(self) -> None:
        if self.name:
            (self._folder / self.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self.name = ""


def _lock(descriptor: int, wait: bool) -> bool:
    """Whether the lock is held now. Windows has no such locks: there, a process is taken to live."""
    if sys.platform == "win32":
        return wait
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
