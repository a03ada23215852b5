"""What the keys and values of a model depend on beside the tokens, so that those of another are never taken for them."""

import hashlib
from collections.abc import Sequence
from importlib import metadata

import mlx.core as mx

from models.files import LocalModel, open_regular, read_regular

CONFIG_LIMIT = 16 * 1024**2
# Of each file with weights: its beginning, where the header stands, and pages spread over the rest.
HEAD_BYTES = 1024**2
PAGE_BYTES = 4096
PAGES = 16
PACKAGES = ("diptych", "mlx", "mlx-lm")


def fingerprint(local: LocalModel, settings: Sequence[str]) -> str:
    """One line for each of them. `settings`: how the model was loaded. Raises OSError where a file cannot be read."""
    versions = [f"{package} {metadata.version(package)}" for package in PACKAGES]
    device = f"{mx.default_device().type}"
    config = local.folder / "config.json"
    files = [f"config {_hex(read_regular(config, CONFIG_LIMIT))}"] if config.is_file() else []
    for shard in local.shards(""):
        with open_regular(shard.path) as file:
            size = file.seek(0, 2)
            places = [(0, HEAD_BYTES), *((size * page // PAGES, PAGE_BYTES) for page in range(1, PAGES))]
            digest = hashlib.blake2b(digest_size=16)
            for place, length in places:
                file.seek(place)
                digest.update(file.read(length))
        files.append(f"{shard.path.name} {size} {shard.path.stat().st_mtime_ns} {digest.hexdigest()}")
    return "\n".join([*versions, device, *settings, *files])


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
