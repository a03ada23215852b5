"""Pictures as one zip file, made while it is sent."""

import io
import re
import time
import zipfile
from collections.abc import Iterator, Sequence

from runner.gallery.files import Files
from runner.gallery.picture import Picture

CHUNK = 1024**2


class _Buffer(io.RawIOBase):
    """What the archive has written since it was last taken. It cannot seek, so the archive puts sizes behind the files."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def archive(files: Files, pictures: Sequence[Picture]) -> Iterator[bytes]:
    """A picture whose file is gone by then is left out."""
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        for picture in pictures:
            info = zipfile.ZipInfo(file_name(picture), time.localtime(picture.made)[:6])
            info.external_attr = 0o644 << 16
            path = files.path(picture.file)
            if not path.is_file():
                continue
            with open(path, "rb") as source, made.open(info, "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield buffer.take()
    yield buffer.take()


def file_name(picture: Picture) -> str:
    """As the page names a download, and unique: words of the prompt, the seed, and a part of the id."""
    words = re.findall(r"\w+", str(picture.recipe.get("prompt", "")).lower())
    name = "-".join(words)[:60] or "picture"
    return f"{name}-{picture.recipe.get('seed', '')}-{picture.id[:8]}.{picture.format}"
