"""Keeps pictures for a few minutes, for clients that ask for a URL instead of the picture."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from msgspec import Raw

from runner.errors import DiptychError
from runner.protocol.image import from_base64

MINUTES = 10
MOST_BYTES = 256 * 1024**2
FOLDER = "/v1/images/files/"


class PictureGone(DiptychError):
    status = 404


@dataclass(frozen=True)
class Kept:
    data: bytes
    media_type: str
    until: float


class Pictures:
    """In memory, up to a limit; then the oldest are dropped. Names cannot be guessed, and knowing one is enough to see
    the picture."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, image: Raw, format: str) -> str:
        """Keep a picture, given as base64; returns its path."""
        data = from_base64(image)
        name = f"{secrets.token_urlsafe(24)}.{format}"
        self._kept[name] = Kept(data, f"image/{format}", time.monotonic() + MINUTES * 60)
        self._bytes += len(data)
        self._clear()
        return FOLDER + name

    def find(self, name: str) -> Kept:
        self._clear()
        picture = self._kept.get(name)
        if picture is None:
            raise PictureGone(f"this picture no longer exists; pictures are kept for {MINUTES} minutes")
        return picture

    def _clear(self) -> None:
        now = time.monotonic()
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if oldest.until > now and (self._bytes <= MOST_BYTES or len(self._kept) == 1):
                return
            del self._kept[name]
            self._bytes -= len(oldest.data)
