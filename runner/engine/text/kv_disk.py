"""The blocks of a model's keys and values on disk: where they are, and what to do if they cannot be there."""

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.files import LocalModel
from models.language.load import LanguageModel
from models.language.paged.disk import DiskTier
from models.language.paged.fingerprint import fingerprint
from models.language.paged.network import PagedNetwork
from models.language.paged.tier import PooledTier, layout
from models.private_folder import make_private
from runner.errors import BadRequest
from runner.paths import cache_folder
from runner.units import show_size

log = logging.getLogger("diptych.text")

# At a stop, for writing what is in memory.
WRITE_S = 5.0
# Beyond that, for a write that has begun.
CLOSE_S = 1.0
REMEDY = "remove it, or name a folder of your own with --kv-disk-folder"


@dataclass(frozen=True)
class KVDisk:
    """`tier` is what the block manager is given."""

    network: PagedNetwork
    disk: DiskTier
    tier: PooledTier

    def close(self) -> None:
        """Write what is in memory and has not been written."""
        self.tier.store(self.network.manager.registered(), WRITE_S)
        self.disk.close(CLOSE_S)

    def stats(self) -> dict[str, Any]:
        disk = self.disk
        return {
            "kv_disk_bytes": disk.bytes,
            "kv_disk_limit": disk.limit,
            "kv_disk_files": disk.files,
            "kv_disk_hits": disk.hits,
            "kv_disk_written": disk.written,
            "kv_disk_damaged": disk.damaged,
        }


def open_disk(
    model: LanguageModel, local: LocalModel, network: PagedNetwork | None, limit: int, folder: str | None
) -> KVDisk | str:
    """The disk, attached to the network's blocks; or why it is not used, which costs no request more than time."""
    if network is None:
        return "--kv-disk has no effect: this model's keys and values are not kept in blocks"
    if not network.manager.keep:
        return "--kv-disk has no effect: --cache-bytes leaves no room for blocks that no text uses"
    root = Path(os.path.expanduser(folder)).absolute() if folder else cache_folder() / "kv"
    place = root / folder_name(model.name)
    try:
        make_private(root, place, REMEDY)
        identity = fingerprint(local, [*model.notes, f"{model.kv_bits} bits in groups of {model.kv_group}"])
        disk = DiskTier(place, limit, identity, layout(network.pool))
    except OSError as error:
        return f"--kv-disk has no effect: {error.strerror or error}"
    except ValueError as error:
        raise BadRequest(f"--kv-disk: {error}") from None
    tier = PooledTier(network.pool, disk)
    network.manager.tier = tier
    log.info("keys and values on disk: up to %s in %s", show_size(limit), place)
    return KVDisk(network, disk, tier)


def folder_name(name: str) -> str:
    """Of a model's folder: readable, and another one for each name."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-60:].strip("-.")
    return f"{readable}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"
