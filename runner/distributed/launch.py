"""The other processes of a model that is spread over several devices: started, watched, let go. No MLX."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from msgspec import Struct, msgpack

from models.language.distributed.wire import MessageSocket
from runner.errors import BadRequest
from runner.hardware import GPU_BACKENDS, is_installed
from runner.process.child import Child

RANK = (sys.executable, "-P", "-m", "runner.distributed.worker")
HERE = "127.0.0.1"
MOST = 64  # ranks
PATIENCE = 5.0  # seconds that a rank may take to leave
LAST_WORDS = 5.0  # seconds from a failed step to the end of the rank that caused it


class Begin(Struct):
    """What a rank is told first: who it is, and how the model is loaded, as the first rank loads it."""

    rank: int
    backend: str
    environment: dict[str, str]
    model: str
    float32: bool
    kv_bits: int | None
    context: int | None
    rows: int
    cache_bytes: int


class World:
    """How the ranks of one machine find each other: by NCCL on NVIDIA cards, one each, by TCP elsewhere."""

    def __init__(self, size: int) -> None:
        """Before this process's environment becomes the first rank's."""
        if sys.platform == "win32" or size > MOST:
            raise BadRequest(f"--tensor-parallel {size}: 1 to {MOST} is possible, and on Windows 1")
        self.size = size
        self._cards = _cards()
        self.backend = "nccl" if any(map(is_installed, GPU_BACKENDS)) else "ring"
        self._folder = tempfile.TemporaryDirectory(prefix="diptych-ranks-")
        self._ports = _free_ports(size)
        if self.backend == "ring":
            hosts = [[f"{HERE}:{port}"] for port in self._ports]
            self._hosts.write_text(json.dumps(hosts))

    @property
    def _hosts(self) -> Path:
        return Path(self._folder.name) / "hosts.json"

    def environment(self, rank: int) -> dict[str, str]:
        """What MLX reads as its backend begins."""
        if self.backend == "ring":
            return {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(self._hosts)}
        if len(self._cards) < self.size:
            raise BadRequest(
                f"--tensor-parallel {self.size} needs as many cards; CUDA_VISIBLE_DEVICES lists {len(self._cards)}"
            )
        return {
            # One by one, kernels are launched sooner than in graphs that hold sums: 148 tokens/s for 111 (two H100).
            "MLX_USE_CUDA_GRAPHS": os.environ.get("MLX_USE_CUDA_GRAPHS", "0"),
            "MLX_RANK": str(rank),
            "MLX_WORLD_SIZE": str(self.size),
            "NCCL_HOST_IP": HERE,
            "NCCL_PORT": str(self._ports[0]),
            "CUDA_VISIBLE_DEVICES": self._cards[rank],
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The group has been formed, or never will be."""
        self._folder.cleanup()


class Others:
    """Every rank but the first. When one ends before it is let go, `on_loss` hears why, on the event loop."""

    def __init__(self, on_loss: Callable[[str], None]) -> None:
        self._on_loss = on_loss
        self._children: list[Child] = []
        self._wires: list[MessageSocket] = []
        self._watches: list[asyncio.Task[None]] = []
        self._leaving = False
        self._lost = threading.Event()
        self._why = ""

    async def start(self, begins: list[Begin]) -> list[MessageSocket]:
        """One process for each; the wires over which they are told what to do."""
        for begin in begins:
            ours, theirs = socket.socketpair()
            with theirs:
                label = f"rank {begin.rank}"
                child = await Child.start([str(theirs.fileno())], label, command=RANK, keep=[theirs.fileno()])
            self._children.append(child)
            self._watches.append(asyncio.create_task(self._watch(child, label)))
            self._wires.append(MessageSocket(ours))
            self._wires[-1].send(msgpack.encode(begin))
        return self._wires

    async def _watch(self, child: Child, label: str) -> None:
        code = await child.wait()
        if not self._leaving:
            # One that was killed did not come to say why.
            how = child.last_words if code > 0 else child.ending
            self._why = self._why or f"{label} of the model ended: {how}"
            self._lost.set()
            self._on_loss(self._why)

    def why_lost(self) -> str:
        """From any other thread: which rank has ended and how; "" when none does within a few seconds."""
        self._lost.wait(LAST_WORDS)
        return self._why

    def let_go(self) -> None:
        """From now on they may end."""
        self._leaving = True

    async def close(self) -> None:
        """When the first rank works no more: close the wires, at which they end; those that do not are killed."""
        self.let_go()
        for wire in self._wires:
            wire.close()
        for child in self._children:
            if not await child.ended(PATIENCE):
                child.kill()
        await asyncio.gather(*self._watches)


def _cards() -> list[str]:
    """The cards that may be taken, as CUDA counts them."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in stated.split(",") if name.strip()] or [str(n) for n in range(MOST)]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has taken now; MLX takes them a moment later."""
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.create_server((HERE, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
