"""Whole pictures over HTTP: a real runner process, from its start to the file that the client receives."""

import asyncio
import base64
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from runner.bench.interleave import Log
from runner.bench.options import PROMPT, Options
from runner.bench.records import Record
from runner.bench.specs import Spec
from runner.errors import RunnerFailed
from runner.process.supervisor import Server
from runner.protocol.image import ImageDone

Size = tuple[int, int]
# The second start finds the kernels that the first one compiled.
STARTS = 2
# What the runner reports of a picture; the rest is packing and transport.
INSIDE = {
    "http, encode": "prompt_eval_duration",
    "http, steps": "eval_duration",
    "http, decode": "decode_duration",
}


@dataclass
class HttpTimes:
    starts: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    warm: dict[tuple[str, Size, int], list[float]] = field(default_factory=dict)  # by part, size and number
    peaks: dict[tuple[Size, int], int] = field(default_factory=dict)
    total: int = 0
    size: Size = (0, 0)  # of the first pictures

    def add(self, part: str, size: Size, n: int, seconds: float) -> None:
        self.warm.setdefault((part, size, n), []).append(seconds)


@dataclass(frozen=True)
class Draws:
    """What each request has beside its prompt and size: the options, and pictures for models that edit some."""

    options: Options
    images: tuple[str, ...] = ()


def measure(
    spec: Spec, folder: str, size: Size, options: Options, written: str, log: Log
) -> Iterator[Record]:
    """`written`: the type of random weights, quantized already if at all; "" for a checkpoint."""
    for memory in options.memory:
        arguments = runner_options(options, memory, bool(written))
        images = (_blank(),) if spec.processor is not None else ()
        draws = Draws(options, images)
        times = asyncio.run(_serve(folder, options.sizes or (size,), draws, arguments, log))
        common: dict[str, Any] = {
            "model": spec.name, "engine": "mlx", "unit": "s", "dtype": written or options.dtype or "",
            "quantize": options.quantize or "", "memory": memory, "layers": spec.layers or 0,
        }  # fmt: skip
        yield from _records(times, common, options)


def _blank() -> str:
    file = io.BytesIO()
    Image.new("RGB", (1024, 1024), "grey").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _records(times: HttpTimes, common: dict[str, Any], options: Options) -> Iterator[Record]:
    if options.wants("load"):
        note = "from start to healthy; cold, then again"
        yield Record(**common, part="load", values=tuple(times.starts), note=note)
    if options.wants("first"):
        width, height = times.size
        yield Record(
            **common, part="first", values=tuple(times.firsts), width=width, height=height, steps=times.total,
            note="over HTTP, after start; cold, then again",
        )  # fmt: skip
    for (part, (width, height), n), seconds in times.warm.items():
        yield Record(
            **common, part=part, values=tuple(seconds), width=width, height=height, n=n, steps=times.total,
            peak=times.peaks[(width, height), n] if part == "http" else 0, peak_of="all",
        )  # fmt: skip


def runner_options(options: Options, memory: str, written: bool) -> list[str]:
    """The same choices as options of a runner. A checkpoint that was written quantized needs none for that."""
    arguments = ["--memory", memory]
    if options.dtype == "float32":
        arguments += ["--dtype", "float32"]
    elif options.dtype:
        arguments += ["--dtype", "checkpoint"]
    return arguments + (["--quantize", options.quantize] if options.quantize and not written else [])


async def _serve(
    folder: str, sizes: tuple[Size, ...], draws: Draws, arguments: list[str], log: Log
) -> HttpTimes:
    times = HttpTimes(size=sizes[0])
    starts = STARTS if draws.options.wants("load", "first") else 1
    for start in range(starts):
        began = time.perf_counter()
        async with Server(folder, options=arguments) as server:
            times.starts.append(time.perf_counter() - began)
            log(f"the runner was healthy after {times.starts[-1]:.1f} s")
            seconds, _ = await _draw(server, sizes[0], 1, draws, start + 1)
            times.firsts.append(seconds)
            if start == starts - 1 and draws.options.wants("http"):
                await _warm(server, sizes, draws, times, log)
    return times


async def _warm(server: Server, sizes: tuple[Size, ...], draws: Draws, times: HttpTimes, log: Log) -> None:
    number = STARTS
    for size in sizes:
        for n in draws.options.counts:
            await _draw(server, size, n, draws, number := number + 1)  # compiles for a new size
            for _ in range(draws.options.rounds):
                seconds, done = await _draw(server, size, n, draws, number := number + 1)
                times.add("http", size, n, seconds)
                for part, key in INSIDE.items():
                    times.add(part, size, n, getattr(done, key) / 1e9)
                times.peaks[size, n] = max(times.peaks.get((size, n), 0), done.peak_memory)
                times.total = done.total // n
                seconds, _ = await _draw(server, size, n, draws, number)
                times.add("http, known prompt", size, n, seconds)
            log(f"{size[0]}x{size[1]} n={n} over HTTP")


async def _draw(server: Server, size: Size, n: int, draws: Draws, number: int) -> tuple[float, ImageDone]:
    """Seconds until the client has the last picture, and the last event."""
    request: dict[str, Any] = {
        "prompt": f"{number:4} {PROMPT}",
        "seed": number,
        "width": size[0],
        "height": size[1],
    }
    request |= {"images": list(draws.images)} if draws.images else {}
    request |= {"n": n} if n > 1 else {}
    request |= {"steps": draws.options.steps} if draws.options.steps else {}
    began, last = time.perf_counter(), None
    async for event in server.completion(request):
        last = event
    if not isinstance(last, ImageDone):
        raise RunnerFailed(f"the runner's last event was {last}")
    return time.perf_counter() - began, last
