"""The files of the gallery: pictures by their ids, and input pictures by their SHA-256."""

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path

from models import private_folder
from runner.paths import state_folder

THUMBNAIL_SIDE = 384
# A file that no row names is left by a process that died, unless another is about to write its row.
ABANDONED_SECONDS = 3600.0
REMEDY = "remove it, or set XDG_STATE_HOME to a folder of your own"


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"

    def path(self, name: str) -> Path:
        """`name` comes from the database, or is one of `input_name`'s."""
        return self.folder / name

    def write(self, name: str, data: bytes) -> None:
        root = state_folder() if self.folder.is_relative_to(state_folder()) else self.folder
        private_folder.make_private(root, self.folder, REMEDY)
        path = self.path(name)
        unfinished = path.with_name(f"{name}.{os.getpid()}.tmp")
        try:
            with open(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def sweep(self, needed: set[str]) -> None:
        """Remove what a process that died has left."""
        with contextlib.suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if path.name not in needed and path.lstat().st_mtime < time.time() - ABANDONED_SECONDS:
                    path.unlink(missing_ok=True)


def input_name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def thumbnail(data: bytes) -> bytes:
    """A small WebP of a picture that a runner of ours has made."""
    # Imported late: a gateway that draws nothing goes without.
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        small = io.BytesIO()
        picture.convert("RGB").save(small, "WEBP", quality=82)
    return small.getvalue()


def media_type(path: Path) -> str:
    """Of a picture, by its first bytes."""
    with open(path, "rb") as file:
        data = file.read(16)
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    return "image/webp" if data[8:12] == b"WEBP" else "application/octet-stream"
