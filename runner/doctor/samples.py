"""The sample model, asked as any client asks it, beside what it gave where that was stored: float32, on a processor.

Each is a runner of its own, so that all there is takes part: the process, HTTP, the GPU thread, kernels, sampling.
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
LIMIT = 180.0  # seconds for one of them, its load included

ASKED_TEXT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "a red circle above a blue square"}],
    "options": {"temperature": 0, "num_predict": 32},
    "logprobs": True,
}
ASKED_PICTURE: dict[str, Any] = {
    "prompt": "a red circle above a blue square", "width": 128, "height": 128, "steps": 4, "seed": 7,
}  # fmt: skip

Pixels = NDArray[np.int16]


class Written(msgspec.Struct, frozen=True):
    """A text, and the log probability of each of its tokens."""

    text: str
    logprobs: list[float]


@dataclass(frozen=True)
class Tolerance:
    """What may differ: log probabilities, levels of 255 on average, and the largest of them."""

    logprob: float
    mean: float
    largest: int


# Of float32 on a processor, where libraries sum in different orders; on a GPU, which may compute it as tf32; and in half
# precision, as models are served there.
EXACT, GPU, HALF = Tolerance(1e-3, 0.05, 3), Tolerance(0.02, 1.0, 64), Tolerance(0.2, 4.0, 255)
FLOAT32 = ("--dtype", "float32")


def samples() -> Iterator[Finding]:
    """In float32, and on a GPU also as models are served there."""
    gpu = has_gpu_backend()
    ways: list[tuple[str, Sequence[str], Tolerance]] = [("float32", FLOAT32, GPU if gpu else EXACT)]
    if gpu:
        ways.append(("as it is served", (), HALF))
    for name, options, tolerance in ways:
        yield _tried(f"text, {name}", partial(_text, options, tolerance))
        yield _tried(f"picture, {name}", partial(_picture, options, tolerance))


def _tried(name: str, work: Callable[[], tuple[bool, str]]) -> Finding:
    began = time.perf_counter()
    try:
        wrong, told = work()
    except ModelNotFound as error:
        return Finding(SECTION, name, Status.WARN, error.message, "the sample comes with Diptych's package")
    except TimeoutError:
        return Finding(SECTION, name, Status.FAIL, f"took longer than {LIMIT:.0f} s", REPORT)
    except DiptychError as error:
        return Finding(SECTION, name, Status.FAIL, error.message, REPORT)
    told = f"{told}; {time.perf_counter() - began:.1f} s with its start"
    return Finding(SECTION, name, Status.FAIL if wrong else Status.OK, told, REPORT if wrong else "")


def _text(options: Sequence[str], tolerance: Tolerance) -> tuple[bool, str]:
    """Whether it differs, and what there is to tell."""
    stored = msgspec.json.decode(TEXT.read_bytes(), type=Written)
    written = asyncio.run(write(options))
    if written.text != stored.text:
        return True, f"it wrote {written.text!r}, and {stored.text!r} is right"
    pairs = zip(written.logprobs, stored.logprobs, strict=True)
    difference = max(abs(ours - right) for ours, right in pairs)
    told = f"the text is right, log probabilities differ by {difference:.1e}"
    wrong = not difference <= tolerance.logprob
    return wrong, told + (f"; {tolerance.logprob:.0e} is allowed" if wrong else "")


def _picture(options: Sequence[str], tolerance: Tolerance) -> tuple[bool, str]:
    stored, drawn = pixels(PICTURE.read_bytes()), pixels(asyncio.run(draw(options)))
    if drawn.shape != stored.shape:
        return True, f"its shape is {drawn.shape}, and {stored.shape} is right"
    levels = np.abs(drawn - stored)
    mean, largest = float(levels.mean()), int(levels.max())
    wrong = mean > tolerance.mean or largest > tolerance.largest
    told = f"differs by {mean:.3f} of 255 levels on average, {largest} at most"
    allowed = f"; {tolerance.mean:g} and {tolerance.largest} are allowed" if wrong else ""
    return wrong, told + allowed


async def write(options: Sequence[str]) -> Written:
    events = await _asked(ModelMode.TEXT, options, ASKED_TEXT)
    texts = [event for event in events if isinstance(event, TextChunk | TextDone)]
    chunks = [event for event in texts if isinstance(event, TextChunk)]
    logprobs = [token.logprob for chunk in chunks for token in chunk.logprobs or ()]
    return Written("".join(event.content or "" for event in texts), logprobs)


async def draw(options: Sequence[str]) -> bytes:
    """As PNG."""
    done = (await _asked(ModelMode.IMAGE, options, ASKED_PICTURE))[-1]
    if not isinstance(done, ImageDone) or not done.image:
        raise RunnerFailed("the sample of pictures made none")
    return from_base64(done.image)


def pixels(png: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)


async def _asked(mode: ModelMode, options: Sequence[str], request: dict[str, Any]) -> list[Event]:
    server = Server(
        sample(mode),
        mode,
        options=["--no-warm-up", *options],
        load_timeout=LIMIT,
        key=secrets.token_urlsafe(),
    )
    try:
        async with asyncio.timeout(LIMIT):
            await server.start()
            async with aclosing(server.completion(request)) as events:
                return [event async for event in events]
    finally:
        await server.close()
