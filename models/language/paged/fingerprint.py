"""What the keys and values of a model depend on beside the tokens, so that those of another are never taken for them."""

import hashlib
from collections.abc import Sequence
from importlib import metadata

import mlx.core as mx

from models.checkpoint.digest import file_digest
from models.files import LocalModel, read_regular

CONFIG_LIMIT = 16 * 1024**2
PACKAGES = ("diptych", "mlx", "mlx-lm")


def fingerprint(local: LocalModel, settings: Sequence[str]) -> str:
    """One line for each of them. `settings`: how the model was loaded. Raises OSError where a file cannot be read."""
    versions = [f"{package} {_version(package)}" for package in PACKAGES]
    device = f"{mx.default_device().type}"
    config = local.folder / "config.json"
    files = [f"config {_hex(read_regular(config, CONFIG_LIMIT))}"] if config.is_file() else []
    for shard in local.shards(""):
        status = shard.path.stat()
        files.append(f"{shard.path.name} {status.st_size} {status.st_mtime_ns} {file_digest(shard.path)}")
    return "\n".join([*versions, device, *settings, *files])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a folder that is not installed
        return "not installed"


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
