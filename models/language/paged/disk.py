"""Blocks of keys and values that left memory, kept on disk for prompts that begin the same way, over restarts too.

All methods are called on the GPU thread, which never waits for a write: a thread of its own writes, and when its queue is full
the oldest block in it is dropped. The end of a text leaves memory before its beginning, without which it is of no use, so the
blocks that came last are the ones to keep. A disk that fails ends the writing, never the process.
"""

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from models.language.paged.block_files import BlockFiles, Payload

log = logging.getLogger("diptych.text")

Digest: TypeAlias = bytes
Layout = Sequence[tuple[tuple[int, ...], mx.Dtype]]  # shape and type of each array of a block

MOST_UNWRITTEN_BYTES = 2**28
READERS = 4
# Blocks that are read ahead of what is asked for.
READ_AHEAD = 16


class DiskTier:
    """`identity` says what keys and values depend on beside their tokens; `limit`: bytes of all files in the folder, which exists
    and which only its user can write to."""

    def __init__(self, folder: Path, limit: int, identity: str, layout: Layout) -> None:
        """Raises ValueError if not even one block fits into the limit."""
        self._layout = [(tuple(shape), dtype) for shape, dtype in layout]
        self._payload_bytes = sum(prod(shape) * dtype.size for shape, dtype in self._layout)
        described = f"{identity}\n{self._layout}".encode()
        self._files = BlockFiles(folder, limit, described, self._payload_bytes)
        if self.file_bytes > limit:
            raise ValueError(
                f"{limit} bytes do not hold one block of this model; at least {self.file_bytes} are needed"
            )
        self.hits = 0
        self.written = 0
        self.dropped = 0
        # Shared with the thread that writes, and guarded by the condition.
        self._changed = threading.Condition()
        self._unwritten: OrderedDict[Digest, Payload] = OrderedDict()
        self._in_hand: dict[Digest, Payload] = {}  # the block that is being written
        self._most_unwritten = max(2, MOST_UNWRITTEN_BYTES // self._payload_bytes)
        self._closing = self._given_up = self._failed = False
        self._ahead: deque[Digest] = deque()
        self._reading: dict[Digest, Future[Payload | None]] = {}
        self._readers = ThreadPoolExecutor(min(READERS, os.cpu_count() or 1), "kv-disk-read")
        self._writer = threading.Thread(target=self._write_all, name="kv-disk-write", daemon=True)
        self._writer.start()

    # -- numbers, from any thread

    @property
    def bytes(self) -> int:
        return self._files.bytes

    @property
    def limit(self) -> int:
        return self._files.limit

    @property
    def file_bytes(self) -> int:
        """Of each block's file."""
        return self._files.file_bytes

    @property
    def files(self) -> int:
        return len(self._files)

    @property
    def damaged(self) -> int:
        return self._files.damaged

    # -- blocks out

    def __contains__(self, digest: Digest) -> bool:
        return self._queued(digest) is not None or digest in self._files

    def _queued(self, digest: Digest) -> Payload | None:
        """What is still to be written."""
        with self._changed:
            payload = self._unwritten.get(digest)
            return self._in_hand.get(digest) if payload is None else payload

    def put(self, digest: Digest, arrays: Sequence[mx.array]) -> None:
        """Start writing a block. What its arrays were made from may be overwritten as soon as this returns."""
        if (
            self._given_up
            or self._closing
            or self._queued(digest) is not None
            or self._files.is_sound(digest)
        ):
            return
        content = mx.concatenate([array.reshape(-1).view(mx.uint8) for array in arrays])
        # Evaluated here: while it is being read, what the arrays are parts of would be copied whole by the next write to it.
        payload = np.array(content)
        with self._changed:
            if len(self._unwritten) >= self._most_unwritten:
                self._unwritten.popitem(last=False)
                self.dropped += 1
            self._unwritten[digest] = payload
            self._changed.notify_all()

    def store(
        self, blocks: Sequence[tuple[Digest, Callable[[], Sequence[mx.array]]]], seconds: float
    ) -> None:
        """Write these blocks too, waiting for the disk for at most so long. For a stop."""
        end = time.monotonic() + seconds
        for at, (digest, export) in enumerate(blocks):
            if not self._wait_for_room(end):
                self._drop(len(blocks) - at)
                return
            self.put(digest, export())

    def close(self, timeout: float) -> None:
        """Finish what is queued, within this time; what is left after it is dropped."""
        end = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join(max(end - time.monotonic(), 0))
        self._drop(len(self._unwritten) + len(self._in_hand))
        self._given_up = True
        self._expect_no_more()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _drop(self, count: int) -> None:
        """Give blocks up at the end; a disk that failed has been reported."""
        if count and not self._failed:
            self.dropped += count
            log.warning("%d blocks of keys and values were not written to disk: no time was left", count)

    def _wait_for_room(self, end: float) -> bool:
        """Whether one more block can be handed over before this time, and would be written."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._unwritten) < self._most_unwritten or self._given_up,
                max(end - time.monotonic(), 0),
            )
            return (
                len(self._unwritten) < self._most_unwritten and not self._given_up and time.monotonic() < end
            )

    # -- on the thread that writes

    def _write_all(self) -> None:
        try:
            self._files.scan()
            while (block := self._next()) is not None:
                self._write(*block)
        except OSError as error:
            self._failed = True
            log.warning(
                "keys and values are no longer written to %s: %s", self._files.folder, error.strerror or error
            )
        except Exception:
            self._failed = True
            log.exception("keys and values are no longer written to disk")
        finally:
            with self._changed:
                self._given_up = True
                self._unwritten.clear()
                self._in_hand.clear()
                self._changed.notify_all()

    def _next(self) -> tuple[Digest, Payload] | None:
        """The next block to write, once there is one; None when there will be none."""
        with self._changed:
            self._in_hand.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._unwritten or self._closing or self._given_up)
            if self._given_up or not self._unwritten:
                return None
            digest, payload = self._unwritten.popitem(last=False)
            self._in_hand[digest] = payload
            return digest, payload

    def _write(self, digest: Digest, payload: Payload) -> None:
        if digest in self._files and self._files.read(digest) is not None:  # another process has written it
            return
        try:
            self._files.write(digest, payload)
            self.written += 1
        except IsADirectoryError as error:
            log.debug("a folder stands in place of a file: %s", error)

    # -- blocks in

    def expect(self, digests: Sequence[Digest]) -> None:
        """These blocks will be asked for next, in this order: they are read ahead, up to the first that is not there."""
        self._expect_no_more()
        if digests and digests[0] in self._files:
            self._ahead.extend(digests)
            self._read_ahead()

    def get(self, digest: Digest) -> list[mx.array] | None:
        """The arrays of a block; None if it is not kept, or if its file is damaged."""
        payload = self._queued(digest)
        if payload is None:
            payload = self._read(digest)
        if payload is None:
            self._expect_no_more()
            return None
        self.hits += 1
        self._read_ahead()
        return self._split(mx.array(payload))

    def _read(self, digest: Digest) -> Payload | None:
        future = self._reading.pop(digest, None)
        return self._files.read(digest) if future is None else future.result()

    def _read_ahead(self) -> None:
        while self._ahead and len(self._reading) < READ_AHEAD:
            digest = self._ahead.popleft()
            self._reading[digest] = self._readers.submit(self._files.read, digest)

    def _expect_no_more(self) -> None:
        self._ahead.clear()
        for future in self._reading.values():
            future.cancel()
        self._reading.clear()

    def _split(self, content: mx.array) -> list[mx.array]:
        arrays, at = [], 0
        for shape, dtype in self._layout:
            size = prod(shape) * dtype.size
            arrays.append(content[at : at + size].view(dtype).reshape(shape))
            at += size
        return arrays
