"""Masks: which part of the first picture is drawn anew, and how that part returns to it.

Both have the picture's own size, or that of the picture with a margin around it (outpainting). What is drawn may be
smaller: it is enlarged before it is pasted, so that everything outside the mask stays as it was, bit for bit. No MLX.
"""

import re
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.base import ImageRequest, Mask, PipelineError, Pixels, Plan, Size
from pipelines.limits import LONGEST_SIDE

LANCZOS = Image.Resampling.LANCZOS
MARGINS = re.compile(r"\s*\d{1,5}(?:[\s,]+\d{1,5}){0,3}\s*", re.ASCII)


def margins(text: str | None) -> tuple[int, int, int, int]:
    """Pixels above, right of, below and left of a picture, written as CSS writes them."""
    if not text:
        return 0, 0, 0, 0
    if not MARGINS.fullmatch(text):
        raise PipelineError(
            f'outpaint: {text[:64]!r} is not allowed; one to four numbers of pixels are needed, as in "128" (all sides), '
            '"0 128" (above and below, left and right) or "0 64 32 64" (above, right, below, left)'
        )
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    top, right, bottom, left = {
        1: numbers * 4,
        2: numbers * 2,
        3: [*numbers, *numbers[1:2]],
        4: numbers,
    }[len(numbers)]
    return top, right, bottom, left


def inpaints(request: ImageRequest) -> bool:
    """Whether a part of the first picture is drawn anew, and the rest is kept."""
    return request.mask is not None or any(margins(request.outpaint))


def canvas_size(request: ImageRequest) -> Size:
    """The size of the first picture with its margins."""
    top, right, bottom, left = margins(request.outpaint)
    width, height = request.image_sizes[0]
    return left + width + right, top + height + bottom


def check(request: ImageRequest) -> None:
    """A PipelineError says what is wrong with the mask or the margins."""
    name = "outpaint" if request.mask is None else "mask"
    if not request.images:
        raise PipelineError(f"{name}: it needs a picture in images")
    if request.mask is not None:
        width, height = request.image_sizes[0]
        if request.mask.shape != (height, width):
            rows, columns = request.mask.shape
            raise PipelineError(
                f"mask: it is {columns} x {rows}, and the first picture is {width} x {height}; both need the same size"
            )
        check_mask(request.mask, request)
    width, height = canvas_size(request)
    if max(width, height) > LONGEST_SIDE:
        raise PipelineError(
            f"{name}: the finished picture would be {width} x {height}; at most {LONGEST_SIDE} pixels along each side are "
            "allowed with a mask"
        )


def check_mask(mask: Mask, request: ImageRequest) -> None:
    if not mask.any() and not any(margins(request.outpaint)):
        raise PipelineError(
            "mask: it is black everywhere, so nothing would change; what is to change must be white, or transparent"
        )


@dataclass(frozen=True, eq=False)
class Canvas:
    """The picture and the mask of a request, with the margins around them, in the size of the finished picture."""

    picture: Pixels
    mask: Mask
    feather: int

    @classmethod
    def of(cls, request: ImageRequest, plan: Plan) -> Self:
        """Margins repeat the picture's outermost pixels: a start for the noise, and for models that look at it."""
        picture = request.images[0]
        mask = np.zeros(picture.shape[:2], np.bool_) if request.mask is None else request.mask
        top, right, bottom, left = margins(request.outpaint)
        around = ((top, bottom), (left, right))
        picture = np.pad(picture, (*around, (0, 0)), mode="edge")
        mask = np.pad(mask, around, constant_values=True)
        return cls(_resized(picture, plan.size), _resized_mask(mask, plan.size), request.feather or 0)

    def drawn(self, plan: Plan) -> tuple[Pixels, Mask]:
        """Both in the size that is drawn."""
        size = plan.width, plan.height
        return _resized(self.picture, size), _resized_mask(self.mask, size)

    def paste(self, drawn: Pixels) -> Pixels:
        """The finished picture: `drawn` where the mask is white, the picture where it is black."""
        rows, columns = self.mask.shape
        new = Image.fromarray(_resized(drawn, (columns, rows)))
        weights = Image.fromarray(feathered(self.mask, self.feather))
        return np.asarray(Image.composite(new, Image.fromarray(self.picture), weights))


def feathered(mask: Mask, width: int) -> NDArray[np.uint8]:
    """255 within the mask, fading to 0 over so many pixels around it. The mask is grown and then blurred, so that all of
    it is drawn anew, and pixels further away stay as they are."""
    if not width:
        return _grey(mask)
    blur = width // 2
    grown = _windows(mask.astype(np.int32), width - blur) > 0
    weights = _windows(grown.astype(np.int32), blur) / np.float32((2 * blur + 1) ** 2)
    return np.rint(weights * 255).astype(np.uint8)


def _windows(values: NDArray[np.int32], reach: int) -> NDArray[np.int32]:
    """The sum over the square of so many pixels around each; what lies at the edges goes on beyond them."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach + 1, reach)
        sums = np.cumsum(np.pad(values, padding, mode="edge"), axis=axis, dtype=np.int32)
        length = values.shape[axis]
        ends = [slice(None), slice(None)]
        starts = [slice(None), slice(None)]
        ends[axis] = slice(2 * reach + 1, 2 * reach + 1 + length)
        starts[axis] = slice(0, length)
        values = sums[tuple(ends)] - sums[tuple(starts)]
    return values


def _resized(picture: Pixels, size: Size) -> Pixels:
    image = Image.fromarray(picture)
    return picture if image.size == size else np.asarray(image.resize(size, LANCZOS))


def _resized_mask(mask: Mask, size: Size) -> Mask:
    return np.asarray(_resized(_grey(mask), size)) >= 128


def _grey(mask: Mask) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)
