"""Loads a picture model with the engine chosen for it. Each engine is imported only when it is used."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from models.files import LocalModel
from pipelines.base import Pipeline
from runner.engine.image.worker import ImageWorker
from runner.engine.warmup import warm_up
from runner.errors import BadRequest
from runner.hardware import room_to_unpack
from runner.inspect.identity import identify
from runner.inspect.image_backend import ImageEngine
from runner.inspect.memory import estimate_memory, is_quantized
from runner.inspect.memory_mode import MemoryChoice, choose_loading
from runner.sources import ModelFiles, ModelMode
from runner.sources.tiny_vae import find_tiny_vae
from runner.units import show_size

LOADING = 0.7  # of the progress, where a warm-up follows

log = logging.getLogger("diptych.image")

Progress = Callable[[float], None]


@dataclass(frozen=True)
class ImageSettings:
    quantize: str | None = None  # one of quantization_formats.FORMATS; None: as the checkpoint is
    memory: str | int = "auto"  # or resident, staged, a budget in bytes
    dtype: str = "auto"  # or float32, checkpoint
    warm_up: bool = True
    room: int | None = None  # all that a gateway has for its models
    tiny_vae: str | None = None  # a tiny autoencoder; None: the usual one, where it is on this machine


def load_image_worker(
    files: ModelFiles,
    local: LocalModel,
    pipeline: str,
    engine: ImageEngine,
    settings: ImageSettings,
    progress: Progress,
) -> ImageWorker:
    """Load the class that model_index.json names, on the calling thread, which owns it from then on."""
    began = time.perf_counter()
    load = _by_torch if engine is ImageEngine.TORCH else _by_mlx
    loaded, notes = load(files, local, pipeline, settings, progress)
    return ImageWorker(loaded, identify(files, local), time.perf_counter() - began, notes)


def _by_mlx(
    files: ModelFiles, local: LocalModel, pipeline: str, settings: ImageSettings, progress: Progress
) -> tuple[Pipeline, list[str]]:
    import mlx.core as mx

    from models.checkpoint.quantize import Quantization
    from models.kernels.gpu import on_cuda
    from pipelines import pipeline_class
    from pipelines.denoise import DenoisingPipeline
    from pipelines.settings import Settings
    from runner.engine import device

    float32 = settings.dtype == "float32" or (settings.dtype == "auto" and not device.has_gpu())
    device.keep_wired()
    choice = _choice(files, settings, float32)
    if isinstance(settings.memory, int):
        mx.set_memory_limit(settings.memory)  # beyond it MLX gives its spare buffers back first
    warms = settings.warm_up and on_cuda() and choice.memory == "resident"
    loading = LOADING if warms else 1.0
    kind: type[DenoisingPipeline] = pipeline_class(pipeline)
    # One that is configured for all models is left to those that can use it.
    tiny_vae = find_tiny_vae(settings.tiny_vae, kind.tiny_vae_repo) if kind.tiny_vae_repo else None
    loaded = kind.load(
        local,
        Settings(
            dtype="float32" if float32 else None,
            quantization=Quantization.parse(settings.quantize) if settings.quantize else None,
            memory=choice.memory,
            unpacked=choice.unpacked,
            tiny_vae=tiny_vae,
            tiny_vae_chosen=settings.tiny_vae is not None,
        ),
        lambda done: progress(loading * done),
    )
    if warms:
        warm_up(
            lambda: loaded.warm(lambda done: progress(LOADING + (1 - LOADING) * done)), loaded.memory.clear
        )
    return loaded, [choice.why]


def _choice(files: ModelFiles, settings: ImageSettings, float32: bool) -> MemoryChoice:
    """How it is held; said in the log, and as a warning where that is slow."""
    from runner.engine import device

    image = ModelMode.IMAGE
    plain = estimate_memory(files, image, float32=float32, quantize=settings.quantize)
    unpacks = float32 and not device.has_gpu() and (settings.quantize or is_quantized(files, image))
    unpacked = estimate_memory(files, image, unpacked=True) if unpacks else None
    choice = choose_loading(settings.memory, plain, unpacked, device.memory(), room_to_unpack(settings.room))
    level = logging.WARNING if unpacks and not choice.unpacked else logging.INFO
    log.log(level, "memory: %s", choice.why)
    return choice


def _by_torch(
    files: ModelFiles, local: LocalModel, pipeline: str, settings: ImageSettings, progress: Progress
) -> tuple[Pipeline, list[str]]:
    if settings.quantize:
        raise BadRequest(f"--quantize {settings.quantize} is for MLX; the torch engine does not quantize")
    if settings.memory not in ("auto", "resident"):
        raise BadRequest(
            f"--memory {settings.memory} is for MLX; the torch engine keeps everything in memory; use auto or resident"
        )
    size = estimate_memory(files, ModelMode.IMAGE).weights  # reads every header: damage is reported now
    log.info(
        "memory: resident, as always with torch: %s of weights in their stored precision", show_size(size)
    )
    from pipelines.fallback.pipeline import TorchPipeline

    return TorchPipeline.load(local, pipeline, settings.dtype, progress), []
