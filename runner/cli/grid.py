"""All pictures of a request as one, side by side."""

import io
import math

from PIL import Image, ImageDraw, ImageFont

from runner.protocol.image import ImageCompletionRequest, ImageDone

GAP = 4
BACKGROUND, INK = "white", "black"
LARGEST_SIDE = 16_000  # of the whole: larger grids are made smaller


class Grid:
    """Pictures arrive one after another, all in one size."""

    def __init__(self, request: ImageCompletionRequest, labels: bool) -> None:
        self._request = request
        self._labels = labels
        self._pictures: list[Image.Image] = []

    def add(self, data: bytes) -> None:
        picture = Image.open(io.BytesIO(data))
        self._pictures.append(picture.convert("RGB"))

    @property
    def columns(self) -> int:
        """A row for each seed if there are variations of it, otherwise nearly a square."""
        variations = len(self._request.variations or ())
        return variations if variations > 1 and self._request.seeds else math.ceil(len(self._pictures) ** 0.5)

    def file(self, done: ImageDone) -> bytes:
        width, height = self._pictures[0].size
        columns = self.columns
        rows = math.ceil(len(self._pictures) / columns)
        size = max(10, height // 24)
        font = ImageFont.load_default(size)
        label = math.ceil(size * 1.5) if self._labels else 0
        across, down = columns * (width + GAP) - GAP, rows * (height + label + GAP) - GAP
        whole = Image.new("RGB", (across, down), BACKGROUND)
        for index, picture in enumerate(self._pictures):
            row, column = divmod(index, columns)
            left, top = column * (width + GAP), row * (height + label + GAP)
            whole.paste(picture, (left, top))
            if self._labels:
                place = (left + size // 4, top + height + size // 8)
                ImageDraw.Draw(whole).text(place, self._label(index, done), INK, font)
        if max(whole.size) > LARGEST_SIDE:
            whole.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        file = io.BytesIO()
        whole.save(file, done.format)
        return file.getvalue()

    def _label(self, index: int, done: ImageDone) -> str:
        if not self._request.is_series:
            return f"{done.seed}, {index + 1}"
        seed, variation = self._request.drawing(index, done.seed)
        return f"{seed}" if variation is None else f"{seed}, {variation}"
