"""Estimates the memory that drawing takes on the CPU in addition to the weights, from sizes alone. No MLX.

Without it a large request would end the process: MLX's CPU allocator does not report that memory is short, and a system
that overcommits kills the process later.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.vae.strips import Strips
from pipelines.base import ImageRequest, Plan, Size
from pipelines.inpaint import inpaints

BYTES = 4  # per number: the CPU computes in float32
# What a transformer's block holds for each token at its peak, in rows of its stream's width and of its MLP's, measured
# (MLX 0.32.4): projections, heads before and after they are turned, gates, what both come to, and work handed ahead.
STREAMS, MLPS = 20, 6
CANVAS = 32  # bytes a pixel: the picture with its margins, its mask, how it is feathered, and both as they are put together
# Attention's pieces, previews of 256 pixels, a prompt in its encoder.
FLOOR = 128 * 2**20


@dataclass(frozen=True)
class Dimensions:
    """Of a model: its transformer's stream and MLP, the tokens of a prompt, pixels along a token, and the channels of its
    autoencoder's outermost planes."""

    width: int
    mlp: int
    prompt: int
    multiple: int
    channels: int

    def tokens(self, width: int, height: int) -> int:
        return (width // self.multiple) * (height // self.multiple)


def working_bytes(
    model: Dimensions, request: ImageRequest, plan: Plan, batch: int, strips: int, shown: Sequence[Size]
) -> int:
    """The most that is held at once, beside the weights: pictures come one after another, each denoised and then decoded
    in strips that may hold so many bytes. `batch`: 2 where two prompts are compared. `shown`: the sizes of pictures that
    the model looks at."""
    masked = inpaints(request)
    tokens = model.prompt + model.tokens(plan.width, plan.height) + sum(model.tokens(*size) for size in shown)
    denoising = batch * tokens * (STREAMS * model.width + MLPS * model.mlp) * BYTES
    convolving = _convolving(model, [(plan.width, plan.height), *shown], strips)
    # Each picture as bytes, and packed; its noise before it is drawn.
    finished = math.prod(plan.size)
    pictures = request.count * finished * 3 * 2
    inputs = sum(picture.nbytes for picture in request.images) + (CANVAS * finished if masked else 0)
    # A step cache keeps two streams, or a few outputs, which are smaller.
    denoising += 2 * batch * tokens * model.width * BYTES if request.step_cache else 0
    return max(denoising, convolving) + pictures + inputs + FLOOR


def _convolving(model: Dimensions, sizes: Iterable[tuple[int, int]], strips: int) -> int:
    """Of the largest that is encoded or decoded, with the picture itself as numbers, twice."""
    held = []
    for width, height in sizes:
        plane = width * height * model.channels * BYTES
        chosen = Strips.within(strips, height, plane, unfolds=True)
        held.append(chosen.held(height, plane, unfolds=True) + 2 * width * height * 3 * BYTES)
    return max(held)
