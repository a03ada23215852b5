"""Diptych's own pipelines, driven as the runner drives them; the times are those of a picture's report."""

import time
from pathlib import Path
from typing import Any

from runner.engine import device

device.prepare()  # a BLAS, where there is no GPU, before MLX is imported

import mlx.core as mx  # noqa: E402

from models.checkpoint.quantize import Quantization  # noqa: E402
from models.kernels.flops import count_flops, device_rate  # noqa: E402
from pipelines import pipeline_class  # noqa: E402
from pipelines.base import ImageRequest, Report  # noqa: E402
from pipelines.components import DTYPES  # noqa: E402
from pipelines.random_model import load_random, write_random  # noqa: E402
from pipelines.settings import VAE_BYTES, Settings  # noqa: E402
from runner.inspect.mode import detect_model_mode  # noqa: E402
from runner.sources import find  # noqa: E402

Times = dict[str, Any]


class Engine:
    def __init__(self, name: str, job: dict[str, Any]) -> None:
        self.job = job
        self.dtype: Any = job["dtype"] or ("bfloat16" if device.has_gpu() else "float32")
        how = job.get("quantize")
        self.quantization = Quantization.parse(how) if how else None
        self.pipeline: Any = None
        self.built: Times = {"dtype": self.dtype}
        if job.get("write"):
            write_random(Path(job["folder"]), job["pipeline"], self.dtype, self.quantization)
        elif job.get("pipeline"):
            self._load()
        self.prompts = 0

    def _load(self) -> None:
        # --memory is measured over HTTP, on a checkpoint: staged random weights would be drawn again for each picture.
        settings = Settings(dtype=self.dtype, quantization=self.quantization)
        if self.job["random"]:
            self.pipeline = load_random(Path(self.job["folder"]), self.job["pipeline"], settings)
        else:
            files = find(self.job["folder"])
            mode = detect_model_mode(files)
            self.pipeline = pipeline_class(mode.pipeline).load(files.fetch(mode.mode), settings)

    def run(self, width: int, height: int, steps: int | None, n: int) -> Times:
        """One request with a new prompt."""
        self.prompts += 1
        prompt = f"{self.prompts:4} {self.job['prompt']}"
        request = self._request(prompt, self.prompts, width=width, height=height, steps=steps, n=n)
        began = time.perf_counter()
        # Step events come while the next step runs, so a step's time is the mean of all, not the time between two events.
        (report,) = (event for event in self.pipeline.generate(request) if isinstance(event, Report))
        return {
            "encode": [report.encode_seconds],
            "step": [report.denoise_seconds / (report.plan.denoise_steps * n)],
            "peak": report.peak_bytes,
            "steps": report.plan.denoise_steps,
            "picture": [time.perf_counter() - began],
        }

    def _request(self, prompt: str, seed: int, **more: Any) -> ImageRequest:
        """With pictures for those that cannot draw without."""
        own: ImageRequest = self.pipeline.warmup_request()
        return ImageRequest(prompt, seed, images=own.images, mask=own.mask, **more)

    def decode(self, width: int, height: int, strips: bool) -> Times:
        codec, latents = self.pipeline.codec, self._latents(width, height)
        mx.eval(latents)
        mx.clear_cache()
        mx.reset_peak_memory()
        before, began = mx.get_active_memory(), time.perf_counter()
        picture = codec.decode(latents, VAE_BYTES if strips else None)
        mx.eval(picture)
        took, peak = time.perf_counter() - began, mx.get_peak_memory() - before
        return {"seconds": [took], "peak": peak}

    def _latents(self, width: int, height: int) -> mx.array:
        codec, patch = self.pipeline.codec, self.pipeline.patch
        multiple = codec.scale * patch
        shape = (1, height // multiple * patch, width // multiple * patch, codec.channels)
        return mx.random.normal(shape, dtype=DTYPES[self.dtype])

    def count(self, width: int, height: int) -> Times:
        """Operations of each part at a size; of a step with the arguments that a picture's first step gets."""
        latents, *rest = self._step_arguments(width, height)
        transformer = self.pipeline.transformer
        network, one = transformer(), mx.zeros((1,))
        prompt = f"   2 {self.job['prompt']}"
        return {
            "step": count_flops(lambda x: network.step(x, *rest), latents),
            "decode": count_flops(self.pipeline.codec.decode, self._latents(width, height)),
            "encode": count_flops(lambda x: self.pipeline.encode_prompt(prompt).states, one),
        }

    def _step_arguments(self, width: int, height: int) -> tuple[Any, ...]:
        class Called(Exception):
            """Ends the picture at its first step, with the step's arguments."""

        def step(*arguments: Any) -> mx.array:
            raise Called(*arguments)

        request = self._request(f"   1 {self.job['prompt']}", 1, width=width, height=height)
        self.pipeline.transformer.step = step
        try:
            list(self.pipeline.generate(request))
        except Called as call:
            return call.args
        finally:
            del self.pipeline.transformer.step
        raise RuntimeError("the picture was drawn without a step")

    def rate(self) -> Times:
        return {"rate": device_rate(DTYPES[self.dtype])}
