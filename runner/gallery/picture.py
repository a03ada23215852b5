"""A picture of the gallery, as it is drawn, stored and answered."""

from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field

from runner.protocol.image import Format


class Picture(Struct, frozen=True, kw_only=True):
    """`recipe` are the parameters that were requested, with the seed in digits, since it may exceed JavaScript's numbers;
    `references` and `mask` name its input pictures. `made` is in seconds since 1970, `seconds` is how long it took."""

    id: str
    made: float
    recipe: dict[str, Any]
    width: int
    height: int
    steps: int
    seconds: float
    index: int
    batch: str
    format: Format
    bytes: int
    favourite: bool = False
    references: list[str] = field(default_factory=list)
    mask: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"{self.id}.{self.format}"


@dataclass(frozen=True)
class Drawn:
    """A picture that is to be stored, with its file and its thumbnail."""

    picture: Picture
    data: bytes
    thumbnail: bytes


@dataclass(frozen=True)
class Limits:
    """`size` in bytes of all pictures and input pictures, `count` in pictures."""

    size: int
    count: int


@dataclass(frozen=True)
class Query:
    """Which pictures: those whose prompt has this text, favourites only, older than the one with the id `before`."""

    search: str = ""
    favourites: bool = False
    before: str = ""


class Found(Struct, frozen=True):
    """The newest that match; `total` of those that match, `bytes` of all files of all owners."""

    pictures: list[Picture]
    more: bool
    total: int
    bytes: int
