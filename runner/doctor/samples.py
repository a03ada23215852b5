"""Runs the sample model as a client would, and compares its output with a stored one, made in float32 on a CPU.

Each run is a runner of its own, so that everything takes part: the process, HTTP, the GPU thread, kernels, sampling.
"""

import asyncio
import io
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.doctor.findings import Finding, Status
from runner.doctor.trials import REPORT
from runner.errors import DiptychError, ModelNotFound, RunnerFailed
from runner.hardware import has_gpu_backend
from runner.inspect.sample import sample
from runner.process.supervisor import Server
from runner.protocol.events import Event
from runner.protocol.image import ImageDone, from_base64
from runner.protocol.text import TextChunk, TextDone
from runner.sources import ModelMode

SECTION = "sample"
REFERENCES = Path(__file__).parent / "references"
TEXT, PICTURE = REFERENCES / "text.json", REFERENCES / "picture.png"
TIMEOUT_S = 180.0  # for one run, its load included

TEXT_REQUEST: dict[str, Any] = {
    "messages": [{"role": "user", "content": "a red circle above a blue square"}],
    "options": {"temperature": 0, "num_predict": 32},
    "logprobs": True,
}
PICTURE_REQUEST: dict[str, Any] = {
    "prompt": "a red circle above a blue square", "width": 128, "height": 128, "steps": 4, "seed": 7,
}  # fmt: skip

Pixels = NDArray[np.int16]


class Written(msgspec.Struct, frozen=True):
    """A text, and the log probability of each of its tokens."""

    text: str
    logprobs: list[float]


@dataclass(frozen=True)
class Tolerance:
    """Allowed differences: of log probabilities; of pixels in levels of 255, on average and at most."""

    logprob: float
    mean: float
    largest: int


# In float32 on a CPU, where libraries sum in different orders; on a GPU, which may compute it as tf32; and in half precision,
# the default on a GPU.
EXACT, GPU, HALF = Tolerance(1e-3, 0.05, 3), Tolerance(0.02, 1.0, 64), Tolerance(0.2, 4.0, 255)
FLOAT32 = ("--dtype", "float32")


def samples() -> Iterator[Finding]:
    """In float32, and on a GPU also in its default precision."""
    gpu = has_gpu_backend()
    runs: list[tuple[str, Sequence[str], Tolerance]] = [("float32", FLOAT32, GPU if gpu else EXACT)]
    if gpu:
        runs.append(("as it is served", (), HALF))
    for name, options, tolerance in runs:
        yield _finding(f"text, {name}", partial(_text, options, tolerance))
        yield _finding(f"picture, {name}", partial(_picture, options, tolerance))


def _finding(name: str, work: Callable[[], tuple[bool, str]]) -> Finding:
    began = time.perf_counter()
    try:
        is_wrong, detail = work()
    except ModelNotFound as error:
        return Finding(SECTION, name, Status.WARN, error.message, "the sample comes with Diptych's package")
    except TimeoutError:
        return Finding(SECTION, name, Status.FAIL, f"took longer than {TIMEOUT_S:.0f} s", REPORT)
    except DiptychError as error:
        return Finding(SECTION, name, Status.FAIL, error.message, REPORT)
    detail = f"{detail}; {time.perf_counter() - began:.1f} s with its start"
    return Finding(SECTION, name, Status.FAIL if is_wrong else Status.OK, detail, REPORT if is_wrong else "")


def _text(options: Sequence[str], tolerance: Tolerance) -> tuple[bool, str]:
    """Whether it is wrong, and the detail of the finding."""
    stored = msgspec.json.decode(TEXT.read_bytes(), type=Written)
    written = asyncio.run(write(options))
    if written.text != stored.text:
        return True, f"wrote {written.text!r} instead of {stored.text!r}"
    pairs = zip(written.logprobs, stored.logprobs, strict=True)
    difference = max(abs(ours - right) for ours, right in pairs)
    detail = f"the text is right, log probabilities differ by {difference:.1e}"
    is_wrong = not difference <= tolerance.logprob
    return is_wrong, detail + (f"; {tolerance.logprob:.0e} is allowed" if is_wrong else "")


def _picture(options: Sequence[str], tolerance: Tolerance) -> tuple[bool, str]:
    stored, drawn = pixels(PICTURE.read_bytes()), pixels(asyncio.run(draw(options)))
    if drawn.shape != stored.shape:
        return True, f"its shape is {drawn.shape} instead of {stored.shape}"
    levels = np.abs(drawn - stored)
    mean, largest = float(levels.mean()), int(levels.max())
    is_wrong = mean > tolerance.mean or largest > tolerance.largest
    detail = f"differs by {mean:.3f} of 255 levels on average, {largest} at most"
    allowed = f"; {tolerance.mean:g} and {tolerance.largest} are allowed" if is_wrong else ""
    return is_wrong, detail + allowed


async def write(options: Sequence[str]) -> Written:
    events = await _events(ModelMode.TEXT, options, TEXT_REQUEST)
    texts = [event for event in events if isinstance(event, TextChunk | TextDone)]
    chunks = [event for event in texts if isinstance(event, TextChunk)]
    logprobs = [token.logprob for chunk in chunks for token in chunk.logprobs or ()]
    return Written("".join(event.content or "" for event in texts), logprobs)


async def draw(options: Sequence[str]) -> bytes:
    """As PNG."""
    done = (await _events(ModelMode.IMAGE, options, PICTURE_REQUEST))[-1]
    if not isinstance(done, ImageDone) or not done.image:
        raise RunnerFailed("the sample made no picture")
    return from_base64(done.image)


def pixels(png: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)


async def _events(mode: ModelMode, options: Sequence[str], request: dict[str, Any]) -> list[Event]:
    server = Server(
        sample(mode),
        mode,
        options=["--no-warm-up", *options],
        load_timeout=TIMEOUT_S,
        key=secrets.token_urlsafe(),
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await server.start()
            async with aclosing(server.completion(request)) as events:
                return [event async for event in events]
    finally:
        await server.close()
