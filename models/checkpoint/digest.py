"""What tells the weights of a model from those of another, without reading all of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from models.files import LocalModel, open_regular

# Of each file: its beginning, where the header stands, and pages spread over the rest.
HEAD_BYTES = 1024**2
PAGE_BYTES = 4096
PAGES = 16
MODEL_DIGITS = 16


def file_digest(path: Path) -> str:
    """Of the file's size and of samples of its content. Raises OSError where it cannot be read."""
    with open_regular(path) as file:
        size = file.seek(0, 2)
        places = [(0, HEAD_BYTES), *((size * page // PAGES, PAGE_BYTES) for page in range(1, PAGES))]
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        for place, length in places:
            file.seek(place)
            digest.update(file.read(length))
    return digest.hexdigest()


def model_digest(local: LocalModel, components: Iterable[str]) -> str:
    """The same for a copy in another folder."""
    digest = hashlib.blake2b(digest_size=MODEL_DIGITS // 2)
    for component in sorted(components):
        for shard in local.shards(component):
            digest.update(f"{component} {file_digest(shard.path)}\n".encode())
    return digest.hexdigest()
