"""The disk below a pool: blocks that leave the pool are written to it, and prompts that begin like them find them there."""

from collections.abc import Sequence
from functools import partial

import mlx.core as mx

from models.language.paged.disk import DiskTier
from models.language.paged.pool import KeyValuePool


class PooledTier:
    """Implements `Tier` of the block manager."""

    def __init__(self, pool: KeyValuePool, disk: DiskTier) -> None:
        self._pool = pool
        self._disk = disk

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._disk

    def put(self, digest: bytes, block: int) -> None:
        self._disk.put(digest, self._content(block))

    def expect(self, digests: Sequence[bytes]) -> None:
        self._disk.expect(digests)

    def fetch(self, digest: bytes, block: int) -> bool:
        arrays = self._disk.get(digest)
        if arrays is None:
            return False
        self._pool.reserve(block + 1)
        self._pool.restore(block, arrays)
        return True

    def store(self, blocks: Sequence[tuple[bytes, int]], seconds: float) -> None:
        """Write what is in memory, for a stop that may take so long. Of more than the disk may hold, the last ones."""
        most = self._disk.limit // self._disk.file_bytes
        self._disk.store(
            [(digest, partial(self._content, block)) for digest, block in blocks[-most:]], seconds
        )

    def _content(self, block: int) -> list[mx.array]:
        return [array[block] for array in self._pool.arrays]


def layout(pool: KeyValuePool) -> list[tuple[tuple[int, ...], mx.Dtype]]:
    """The arrays of one block."""
    return [(array.shape[1:], array.dtype) for array in pool.arrays]
