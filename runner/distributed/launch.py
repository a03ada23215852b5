"""Tensor parallelism across processes: start one worker process per further rank, watch them, shut them down.

Nothing of MLX is imported before `launch_workers`: MLX reads the environment as it is imported.
"""

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
from typing import TYPE_CHECKING, Self

from msgspec import Struct, msgpack

from models.config import read_json
from models.files import LocalModel
from models.language.distributed.wire import MessageSocket
from runner.errors import BadRequest
from runner.hardware import GPU_BACKENDS, is_installed
from runner.process.child import Child

if TYPE_CHECKING:
    from models.language.distributed.coordinator import Leader
    from runner.engine.text.worker import TextSettings

WORKER_COMMAND = (sys.executable, "-P", "-m", "runner.distributed.worker")
LOOPBACK = "127.0.0.1"
MAX_RANKS = 64
KILL_AFTER_S = 5.0  # from the end of its socket to the kill of a worker
RANK_EXIT_TIMEOUT_S = 5.0  # from a failed step to the exit of the rank that caused it


class WorkerConfig(Struct):
    """The first message to a worker: its rank, and the settings with which rank 0 loads the model."""

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
    """How the ranks of one machine connect: NCCL with one NVIDIA card each, otherwise TCP."""

    def __init__(self, size: int) -> None:
        """To be made before rank 0's variables are set in this process's environment."""
        if sys.platform == "win32" or size > MAX_RANKS:
            raise BadRequest(f"--tensor-parallel {size}: 1 to {MAX_RANKS} are allowed, on Windows only 1")
        self.size = size
        self._cards = _visible_cards()
        self.backend = "nccl" if any(map(is_installed, GPU_BACKENDS)) else "ring"
        self._folder = tempfile.TemporaryDirectory(prefix="diptych-ranks-")
        self._ports = _free_ports(size)
        if self.backend == "ring":
            hosts = [[f"{LOOPBACK}:{port}"] for port in self._ports]
            self._host_file.write_text(json.dumps(hosts))

    @property
    def _host_file(self) -> Path:
        return Path(self._folder.name) / "hosts.json"

    def environment(self, rank: int) -> dict[str, str]:
        """The variables that MLX's backend reads when it initializes."""
        if self.backend == "ring":
            return {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(self._host_file)}
        if len(self._cards) < self.size:
            raise BadRequest(
                f"--tensor-parallel {self.size} needs as many cards; CUDA_VISIBLE_DEVICES lists {len(self._cards)}"
            )
        return {
            # Launching kernels one by one beats graphs that contain sums: 148 against 111 tokens/s (two H100).
            "MLX_USE_CUDA_GRAPHS": os.environ.get("MLX_USE_CUDA_GRAPHS", "0"),
            "MLX_RANK": str(rank),
            "MLX_WORLD_SIZE": str(self.size),
            "NCCL_HOST_IP": LOOPBACK,
            "NCCL_PORT": str(self._ports[0]),
            "CUDA_VISIBLE_DEVICES": self._cards[rank],
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The host file is not needed once the group has formed, or failed to."""
        self._folder.cleanup()


class WorkerProcesses:
    """All ranks but the first. `on_loss` is called with the reason, on the event loop, when one exits too early."""

    def __init__(self, on_loss: Callable[[str], None]) -> None:
        self._on_loss = on_loss
        self._children: list[Child] = []
        self._wires: list[MessageSocket] = []
        self._watches: list[asyncio.Task[None]] = []
        self._stopping = False
        self._lost = threading.Event()
        self._reason = ""

    async def start(self, configs: list[WorkerConfig]) -> list[MessageSocket]:
        """Start one process per config; the sockets to them."""
        for config in configs:
            ours, theirs = socket.socketpair()
            with theirs:
                label, fd = f"rank {config.rank}", theirs.fileno()
                child = await Child.start([str(fd)], label, command=WORKER_COMMAND, keep=[fd])
            self._children.append(child)
            self._watches.append(asyncio.create_task(self._watch(child, label)))
            self._wires.append(MessageSocket(ours))
            self._wires[-1].send(msgpack.encode(config))
        return self._wires

    async def _watch(self, child: Child, label: str) -> None:
        code = await child.wait()
        if not self._stopping:
            # A process that was killed has not logged the reason: what it logged last is something else.
            ending = child.last_words if code > 0 else child.ending
            self._reason = self._reason or f"{label} of the model ended: {ending}"
            self._lost.set()
            self._on_loss(self._reason)

    def why_lost(self) -> str:
        """From another thread: which rank exited, and how; "" when none does within a few seconds."""
        self._lost.wait(RANK_EXIT_TIMEOUT_S)
        return self._reason

    def let_go(self) -> None:
        """From now on, exits are expected."""
        self._stopping = True

    async def close(self) -> None:
        """Once rank 0 has stopped working: close the sockets, at which the workers exit; kill those that do not."""
        self.let_go()
        for wire in self._wires:
            wire.close()
        for child in self._children:
            if not await child.ended(KILL_AFTER_S):
                child.kill()
        await asyncio.gather(*self._watches)


def launch_workers(
    local: LocalModel,
    model: str,
    settings: "TextSettings",
    world: World,
    workers: WorkerProcesses,
    loop: asyncio.AbstractEventLoop,
) -> "Leader":
    """Called on the GPU thread of rank 0, whose variables are set by now, before it loads its own share of the weights.
    `model` is the name by which the workers find it too."""
    from models.language.distributed.coordinator import Leader
    from models.language.distributed.sharding import check_shardable
    from runner.engine.text.worker import cache_limit

    check_shardable(local.name, read_json(local.folder / "config.json"), world.size)
    configs = [
        WorkerConfig(
            rank,
            world.backend,
            world.environment(rank),
            model,
            settings.float32,
            settings.kv_bits,
            settings.context,
            settings.batch,
            cache_limit(settings),
        )
        for rank in range(1, world.size)
    ]
    with world:
        wires = asyncio.run_coroutine_threadsafe(workers.start(configs), loop).result()
        return Leader(world.backend, wires)


def _visible_cards() -> list[str]:
    """The cards that may be used, by CUDA's numbers or names."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in names.split(",") if name.strip()] or [str(n) for n in range(MAX_RANKS)]


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; MLX binds them a moment later."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
