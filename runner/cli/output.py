"""Where pictures are written: to the path that was given, or to a new name made from the prompt."""

import os
import re
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from runner.errors import BadRequest

SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
LONGEST = 40  # characters of the prompt in a name


def format_of(out: Path | None, format: str | None) -> str:
    """png, jpeg or webp: the given format, else that of the file's suffix, else png."""
    suffix = out.suffix.lower() if out is not None and not out.is_dir() else ""
    if suffix and suffix not in SUFFIXES:
        raise BadRequest(f"{out}: cannot write {suffix} files; use {', '.join(SUFFIXES)}")
    implied = SUFFIXES.get(suffix)
    if format and implied and format != implied:
        raise BadRequest(f"{out} is the name of a {implied} file, but --format says {format}")
    return format or implied or "png"


class Target:
    """The files that one request writes."""

    def __init__(self, out: Path | None, prompt: str, format: str, count: int) -> None:
        self._named = out is not None and not out.is_dir()
        folder = (out.parent if self._named else out) if out is not None else Path()
        _check_writable(folder)
        suffix = ".jpg" if format == "jpeg" else f".{format}"
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self._path = out if out is not None and self._named else folder / f"{slug(prompt)}-{stamp}{suffix}"
        self._count = count
        self.preview = self._path.with_name(f"{self._path.stem}.preview{suffix}")

    def write(self, data: bytes, index: int) -> Path:
        """Write a picture atomically. A path that was given is overwritten; a made-up name never hits an existing file."""
        path = self._path
        if self._count > 1:
            path = path.with_name(f"{path.stem}-{index + 1}{path.suffix}")
        return self._write(path, data)

    def write_grid(self, data: bytes) -> Path:
        return self._write(self._path.with_name(f"{self._path.stem}-grid{self._path.suffix}"), data)

    def _write(self, path: Path, data: bytes) -> Path:
        if self._named:
            replace(path, data)
            return path
        for candidate in _alternatives(path):
            try:
                candidate.touch(exist_ok=False)
            except FileExistsError:
                continue
            try:
                replace(candidate, data)
            except BaseException:
                candidate.unlink(missing_ok=True)
                raise
            return candidate
        raise AssertionError("unreachable: the alternatives are endless")

    def write_preview(self, data: bytes) -> None:
        replace(self.preview, data)

    def remove_preview(self) -> None:
        self.preview.unlink(missing_ok=True)


def _check_writable(folder: Path) -> None:
    """By trying: some folders refuse files although their permissions allow them."""
    if not folder.is_dir():
        raise BadRequest(f"cannot write pictures to {folder}: it is not a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise BadRequest(f"cannot write pictures to {folder}: {error.strerror or error}") from None


def replace(path: Path, data: bytes) -> None:
    """Replace a file atomically: readers see the old content or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:50]}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _alternatives(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def slug(prompt: str) -> str:
    """The beginning of a prompt as part of a file name: letters and digits of any script."""
    text = unicodedata.normalize("NFC", prompt).lower()
    words = re.findall(r"[^\W_]+", text)
    name = ""
    for word in words:
        if len(name) + len(word) >= LONGEST:
            break
        name = f"{name}-{word}" if name else word
    return name or (words[0][:LONGEST] if words else "picture")
