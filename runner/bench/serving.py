"""Whole pictures over HTTP: a real runner process, from its start to the packed file that its client has."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.bench.interleave import Tell
from runner.bench.options import PROMPT, Options
from runner.bench.records import Record
from runner.bench.specs import Spec
from runner.errors import RunnerFailed
from runner.process.supervisor import Server

Size = tuple[int, int]
# The second start finds the kernels that the first one compiled.
STARTS = 2
# What the runner says of a picture: the rest is packing and the way.
INSIDE = {
    "http, encode": "prompt_eval_duration",
    "http, steps": "eval_duration",
    "http, decode": "decode_duration",
}


@dataclass
class Served:
    starts: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    warm: dict[tuple[str, Size, int], list[float]] = field(default_factory=dict)  # by part, size and number
    peaks: dict[tuple[Size, int], int] = field(default_factory=dict)
    total: int = 0
    size: Size = (0, 0)  # of the first pictures

    def add(self, part: str, size: Size, n: int, seconds: float) -> None:
        self.warm.setdefault((part, size, n), []).append(seconds)


def measure(
    spec: Spec, folder: str, size: Size, options: Options, written: str, tell: Tell
) -> Iterator[Record]:
    """`written`: the type of random weights, which are quantized already where they are to be; "" for a checkpoint."""
    for memory in options.memory:
        arguments = runner_options(options, memory, bool(written))
        served = asyncio.run(_serve(folder, options.sizes or (size,), options, arguments, tell))
        told: dict[str, Any] = {
            "model": spec.name, "engine": "mlx", "unit": "s", "dtype": written or options.dtype or "",
            "quantize": options.quantize or "", "memory": memory, "layers": spec.layers or 0,
        }  # fmt: skip
        yield from _records(served, told, options)


def _records(served: Served, told: dict[str, Any], options: Options) -> Iterator[Record]:
    if options.wants("load"):
        note = "from start to healthy; cold, then again"
        yield Record(**told, part="load", values=tuple(served.starts), note=note)
    if options.wants("first"):
        width, height = served.size
        yield Record(
            **told, part="first", values=tuple(served.firsts), width=width, height=height, steps=served.total,
            note="over HTTP, after start; cold, then again",
        )  # fmt: skip
    for (part, (width, height), n), seconds in served.warm.items():
        yield Record(
            **told, part=part, values=tuple(seconds), width=width, height=height, n=n, steps=served.total,
            peak=served.peaks[(width, height), n] if part == "http" else 0, peak_of="all",
        )  # fmt: skip


def runner_options(options: Options, memory: str, written: bool) -> list[str]:
    """How the runner is told the same. A checkpoint that was written quantized is so already."""
    given = ["--memory", memory]
    if options.dtype == "float32":
        given += ["--dtype", "float32"]
    elif options.dtype:
        given += ["--dtype", "checkpoint"]
    return given + (["--quantize", options.quantize] if options.quantize and not written else [])


async def _serve(
    folder: str, sizes: tuple[Size, ...], options: Options, arguments: list[str], tell: Tell
) -> Served:
    served = Served(size=sizes[0])
    starts = STARTS if options.wants("load", "first") else 1
    for start in range(starts):
        began = time.perf_counter()
        async with Server(folder, options=arguments) as server:
            served.starts.append(time.perf_counter() - began)
            tell(f"a runner was healthy after {served.starts[-1]:.1f} s")
            seconds, _ = await _draw(server, sizes[0], 1, options, start + 1)
            served.firsts.append(seconds)
            if start == starts - 1 and options.wants("http"):
                await _warm(server, sizes, options, served, tell)
    return served


async def _warm(
    server: Server, sizes: tuple[Size, ...], options: Options, served: Served, tell: Tell
) -> None:
    number = STARTS
    for size in sizes:
        for n in options.counts:
            await _draw(server, size, n, options, number := number + 1)  # compiles, where the size is new
            for _ in range(options.rounds):
                seconds, done = await _draw(server, size, n, options, number := number + 1)
                served.add("http", size, n, seconds)
                for part, key in INSIDE.items():
                    served.add(part, size, n, done[key] / 1e9)
                served.peaks[size, n] = max(served.peaks.get((size, n), 0), done.get("peak_memory", 0))
                served.total = int(done["total"]) // n
                seconds, _ = await _draw(server, size, n, options, number)
                served.add("http, known prompt", size, n, seconds)
            tell(f"{size[0]}x{size[1]} n={n} over HTTP")


async def _draw(
    server: Server, size: Size, n: int, options: Options, number: int
) -> tuple[float, dict[str, Any]]:
    """Seconds until the client has the last picture, and the last event."""
    request: dict[str, Any] = {
        "prompt": f"{number:4} {PROMPT}",
        "seed": number,
        "width": size[0],
        "height": size[1],
    }
    request |= {"n": n} if n > 1 else {}
    request |= {"steps": options.steps} if options.steps else {}
    began, last = time.perf_counter(), {}
    async for event in server.completion(request):
        last = event
    if not last.get("done"):
        raise RunnerFailed(f"the runner's last event was {last}")
    return time.perf_counter() - began, last
