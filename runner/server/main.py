"""The life of a runner process: port, loading, signals, shutdown."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from models.encoders.architectures import is_encoder
from models.files import LocalModel
from models.open_files import allow_open_files, keep_open_files_limit
from runner.distributed.launch import WorkerProcesses, World, launch_workers
from runner.engine import device
from runner.engine.engine import Engine, State
from runner.engine.jobs import Worker
from runner.errors import BadRequest, ConfigInvalid, DiptychError, RunnerFailed
from runner.http import tracing
from runner.http.limits import Limits
from runner.http.server import HttpServer, bind, is_loopback, loop_factory
from runner.inspect.detect import check_runnable
from runner.inspect.image_backend import ImageEngine
from runner.inspect.mode import ModelType
from runner.process.client import address
from runner.process.parent import die_with_parent
from runner.process.stalls import Activity
from runner.protocol.speculate import DRAFTED
from runner.server.app import RunnerApp
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.adapters import AdapterSource
from runner.sources.controlnets import ControlNetSource
from runner.sources.loras import parse_lora

log = logging.getLogger("diptych.serve")

GRACE = 5.0  # seconds for jobs in flight at shutdown
ERROR_LINGER_S = 3.0  # seconds for which /health still reports why the model could not be loaded


@dataclass(frozen=True)
class RunnerSettings:
    model: str
    port: int
    host: str = "127.0.0.1"
    queue: int = 512
    batch: int = 64
    cache_bytes: int | None = None
    kv_memory: int | None = None
    kv_disk: int | None = None
    kv_disk_folder: str | None = None
    context: int | None = None
    kv_bits: int | None = None
    speculate: str | None = None  # "lookup" or "off"; None: by the draft model, if there is one
    draft: str | None = None  # a model
    speculate_tokens: int = DRAFTED
    dtype: str = "auto"
    quantize: str | None = None
    memory: str | int = "auto"
    engine: str = "auto"
    loras: str | None = None  # the folder of adapters
    lora: Sequence[str] | None = None  # adapters of a language model, with their scales
    controlnets: str | None = None  # the folder of ControlNets
    tiny_vae: str | None = None  # a tiny autoencoder
    lora_file: Sequence[str] | None = None  # more of them, given by the local user
    api_key: str | None = None
    allow_host: Sequence[str] | None = None
    allow_origin: Sequence[str] | None = None
    tensor_parallel: int = 1
    warm_up: bool = True
    room: int | None = None  # the gateway's memory for all its models
    supervised: bool = False  # by a parent process, which reads our stderr and whose end ends us


def run(settings: RunnerSettings) -> int:
    """Serve until told to stop; the exit code."""
    if not is_loopback(settings.host) and not settings.api_key:
        raise ConfigInvalid(
            f"other machines can reach {settings.host}, so clients need an API key: set --api-key or DIPTYCH_API_KEY"
        )
    if settings.supervised:
        die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)  # before the event loop handles them, there is nothing to finish
    allow_open_files()
    listener = bind(settings.host, settings.port)
    if settings.port == 0:
        print(listener.getsockname()[1], flush=True)
    # The default switch interval of 5 ms is long compared with a step of a small model.
    sys.setswitchinterval(0.001)
    # Importing and loading create objects that stay alive: collecting garbage among them only costs time.
    gc.disable()
    tracing.start("diptych-runner")
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_Process(settings, listener).main())
    finally:
        tracing.stop()


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)


class _Process:
    def __init__(self, settings: RunnerSettings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._stopping = asyncio.Event()
        self._signals = 0
        self._engine = Engine(self._load, queue=settings.queue, on_death=self._stopping.set)
        self._workers = WorkerProcesses(on_loss=self._engine.fail)
        self._loop: asyncio.AbstractEventLoop
        # A rank also waits for the others, however slowly they load.
        activity = Activity() if settings.tensor_parallel == 1 else None
        self._app = RunnerApp(
            self._engine,
            settings.model,
            self._stopping.set,
            key=settings.api_key,
            hosts=settings.allow_host or (),
            origins=settings.allow_origin or (),
            activity=activity,
            adapters=AdapterSource(settings.loras, settings.lora_file or ()),
            controlnets=ControlNetSource(settings.controlnets),
        )

    async def main(self) -> int:
        loop = self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signal)
        server = HttpServer(self._app.asgi, Limits())
        self._engine.start()
        serving = asyncio.create_task(server.serve(sockets=[self._listener]))
        host, port = self._listener.getsockname()[:2]
        log.info("listening on http://%s, loading %s", address(host, port), self._settings.model)
        await self._stopping.wait()
        failed = self._engine.state is State.FAILED
        if not failed or self._signals:
            await self._drain()
        elif not self._settings.supervised:
            await asyncio.sleep(ERROR_LINGER_S)
        self._workers.let_go()
        await self._engine.close()
        await self._workers.close()
        server.should_exit = True
        await serving
        self._app.close()
        if failed:
            log.error("%s", " ".join(self._engine.error.split()))
        else:
            log.info("stopped")
        if self._engine.working:
            # During a load, a download or a hang, MLX would abort if Python shut down while its thread runs.
            logging.shutdown()
            os._exit(int(failed))
        return int(failed)

    async def _drain(self) -> None:
        """Accept no new work, and give jobs in flight a few seconds."""
        self._engine.refuse_work()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._engine.idle.wait(), GRACE)

    def _signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(130)
        log.info("stopping: %d requests in flight", self._engine.jobs)
        self._stopping.set()

    # -- on the GPU thread

    def _load(self, progress: Callable[[float], None]) -> Worker:
        settings = self._settings
        files = find(settings.model)
        mode = check_runnable(files, settings.engine)
        uses_mlx = mode.engine is ImageEngine.MLX
        log.info(
            "%s",
            device.prepare(texts=mode.mode is ModelMode.TEXT)
            if uses_mlx
            else "computing with diffusers on PyTorch",
        )
        local = files.fetch(mode.mode, lambda done, total: progress(0.5 * done / max(total, 1)))

        def report(done: float) -> None:
            progress(0.5 + 0.5 * done)

        try:
            if mode.mode is ModelMode.IMAGE:
                worker = self._image(files, local, mode, report)
            else:
                worker = self._text(local, report)
        except ImportError as error:
            raise RunnerFailed(device.explain_import_error(error)) from error
        gc.freeze()
        gc.enable()
        return worker

    def _text(self, local: LocalModel, progress: Callable[[float], None]) -> Worker:
        settings = self._settings
        loras = tuple(map(parse_lora, settings.lora or ()))
        if (loras or local.loras) and settings.tensor_parallel > 1:
            raise BadRequest("--tensor-parallel cannot be combined with LoRA adapters")
        if settings.quantize or settings.memory != "auto" or settings.engine == "torch":
            name = (
                "--quantize"
                if settings.quantize
                else "--memory"
                if settings.memory != "auto"
                else "--engine torch"
            )
            raise BadRequest(f"{name} is for picture models; {settings.model} is a language model")
        if is_encoder(local.read_json("config.json") or {}):
            if loras or local.loras:
                raise BadRequest(f"--lora is for models that write text; {settings.model} is an encoder")
            return self._encoder(local, progress)
        draft = self._draft_files()
        if settings.kv_disk and settings.tensor_parallel > 1:
            raise BadRequest(
                f"--kv-disk cannot be used with --tensor-parallel {settings.tensor_parallel}: a block that one process has "
                "on disk may be missing on another's; set --kv-disk to 0"
            )
        world = World(settings.tensor_parallel) if settings.tensor_parallel > 1 else None
        if world is not None:
            os.environ.update(world.environment(0))
        device.leave_torch_out()
        with keep_open_files_limit():
            from runner.engine.text.worker import TextSettings, load_text_worker

        chosen = TextSettings(
            batch=settings.batch,
            cache_bytes=settings.cache_bytes,
            kv_memory=settings.kv_memory,
            kv_disk=settings.kv_disk or 0,
            kv_disk_folder=settings.kv_disk_folder,
            context=settings.context,
            kv_bits=settings.kv_bits,
            lookup=settings.speculate == "lookup",
            draft=draft,
            drafted=settings.speculate_tokens,
            float32=self._float32(),
            room=settings.room,
            warm_up=settings.warm_up,
            loras=loras,
        )
        if world is None:
            return load_text_worker(local, chosen, progress)
        ranks = launch_workers(local, settings.model, chosen, world, self._workers, self._loop)
        return load_text_worker(local, chosen, progress, ranks, self._workers.why_lost)

    def _encoder(self, local: LocalModel, progress: Callable[[float], None]) -> Worker:
        settings = self._settings
        for option, used in {
            "--draft": settings.draft is not None,
            "--tensor-parallel": settings.tensor_parallel > 1,
        }.items():
            if used:
                raise BadRequest(f"{option} is for models that write text; {settings.model} is an encoder")
        from runner.engine.text.encoder_worker import load_encoder_worker

        return load_encoder_worker(local, self._float32(), settings.context, progress)

    def _float32(self) -> bool:
        dtype = self._settings.dtype
        return dtype == "float32" or (dtype == "auto" and not device.has_gpu())

    def _draft_files(self) -> LocalModel | None:
        """The draft model's files, on this machine."""
        settings = self._settings
        if settings.draft is None:
            return None
        if settings.speculate == "off":
            raise BadRequest(
                "--draft names a model to draft with, and --speculate off turns drafting off; use one of them"
            )
        if settings.tensor_parallel > 1:
            raise BadRequest("--draft cannot be combined with --tensor-parallel")
        try:
            files = find(settings.draft)
            mode = check_runnable(files).mode
        except DiptychError as error:
            raise BadRequest(f"--draft: {error.message}") from None
        if mode is not ModelMode.TEXT:
            raise BadRequest(f"--draft: {settings.draft} draws pictures; a language model is needed")
        return files.fetch(ModelMode.TEXT, lambda done, total: None)

    def _image(
        self, files: ModelFiles, local: LocalModel, model: ModelType, progress: Callable[[float], None]
    ) -> Worker:
        from runner.engine.image.load import ImageSettings, load_image_worker

        settings = self._settings
        if settings.tensor_parallel > 1:
            raise BadRequest(f"--tensor-parallel is for language models; {settings.model} is a picture model")
        if settings.draft is not None:
            raise BadRequest(f"--draft is for language models; {settings.model} is a picture model")
        if settings.lora:
            raise BadRequest(
                f"--lora is for language models; {settings.model} is a picture model, whose adapters are chosen per request"
            )
        chosen = ImageSettings(
            settings.quantize,
            settings.memory,
            settings.dtype,
            settings.warm_up,
            settings.room,
            settings.tiny_vae,
        )
        return load_image_worker(files, local, model.pipeline, model.engine, chosen, progress)
