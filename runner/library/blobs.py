"""Blobs of the Ollama store: each is written whole, under the digest of its content, or not at all."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from models.files import open_regular
from runner.errors import BadRequest, DiptychError, NotEnoughDisk
from runner.sources.base import shorten
from runner.sources.ollama_store import DIGEST, store_root
from runner.units import show_size

CHUNK = 2**20


def blob_path(digest: str) -> Path:
    """Where a blob lies. BadRequest for what is not a digest: it becomes part of a path."""
    if not DIGEST.fullmatch(digest):
        raise BadRequest(f"digest: {shorten(digest)} is not allowed; sha256: and 64 hex digits are needed")
    return store_root() / "blobs" / digest.replace(":", "-")


class BlobWriter:
    """Receives a blob. Without `commit` nothing stays behind."""

    def __init__(self, size: int | None = None) -> None:
        """`size`: how many bytes are expected."""
        folder = store_root() / "blobs"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if size is not None and size > free:
                raise NotEnoughDisk(
                    f"the blob has {show_size(size)}, and {folder} has {show_size(free)} free; make room there"
                )
            self._hash = hashlib.sha256()
            self.size = 0
            self._file = tempfile.NamedTemporaryFile(dir=folder, prefix=".blob-", delete=False)  # noqa: SIM115 - closed on exit
        except OSError as error:
            raise _not_writable(error, folder) from error

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise _not_writable(error, store_root()) from error

    def commit(self, expected: str | None = None) -> str:
        """The digest, once the blob is in its place. BadRequest if it is not the expected one."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected is not None and digest != expected:
            raise BadRequest(f"digest: {expected} is not that of the content, which has {digest}")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.chmod(self._file.name, 0o644)
            os.replace(self._file.name, blob_path(digest))
        except OSError as error:
            raise _not_writable(error, store_root()) from error
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


def put(content: bytes) -> str:
    """The digest of a blob with this content."""
    with BlobWriter(len(content)) as writer:
        writer.write(content)
        return writer.commit()


def put_file(path: Path) -> tuple[str, int]:
    """A copy of a file: the digest and the size of the blob."""
    with open_regular(path) as file, BlobWriter(path.stat().st_size) as writer:
        while data := file.read(CHUNK):
            writer.write(data)
        return writer.commit(), writer.size


def _not_writable(error: OSError, path: Path) -> DiptychError:
    return DiptychError(f"{error.filename or path} cannot be written: {error.strerror or error}")
