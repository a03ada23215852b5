"""What a drawing has made, as the gallery keeps it."""

import binascii
import secrets
import time
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Raw

from runner.errors import BadRequest
from runner.gallery.files import input_name
from runner.gallery.picture import Picture
from runner.protocol.image import ImageCompletionRequest, ImageDone, from_base64

NANOSECONDS = 1e9


class Result:
    def __init__(
        self, recipe: Mapping[str, Any], request: ImageCompletionRequest, warnings: list[str]
    ) -> None:
        self._recipe = recipe
        self._request = request
        self._warnings = warnings
        self._files: list[bytes] = []
        self.done: ImageDone | None = None

    def add(self, image: Raw) -> None:
        self._files.append(from_base64(image))

    def end(self, done: ImageDone) -> None:
        if done.image is not UNSET:
            self.add(done.image)
        self.done = done

    def pictures(self) -> tuple[list[tuple[Picture, bytes]], list[bytes]]:
        """Pictures with their files, and the input pictures."""
        done = self.done
        assert done is not None
        references = [input_bytes(image, f"images[{at}]") for at, image in enumerate(self._request.images)]
        mask = input_bytes(self._request.mask, "mask") if self._request.mask else None
        seconds = (done.prompt_eval_duration + done.eval_duration + done.decode_duration) / NANOSECONDS
        shared: dict[str, Any] = {
            "made": time.time(),
            "width": done.width,
            "height": done.height,
            "steps": done.total // max(1, len(self._files)),
            "seconds": seconds,
            "batch": secrets.token_hex(16),
            "format": done.format,
            "references": [input_name(data) for data in references],
            "mask": input_name(mask) if mask else None,
            "warnings": [*self._warnings, *(() if done.warnings is UNSET else done.warnings)],
        }
        pictures = [
            (
                Picture(
                    id=secrets.token_hex(16),
                    index=index,
                    bytes=len(data),
                    recipe=self._recipe_of(index, done),
                    **shared,
                ),
                data,
            )
            for index, data in enumerate(self._files)
        ]
        return pictures, [*references, *([mask] if mask else [])]

    def _recipe_of(self, index: int, done: ImageDone) -> dict[str, Any]:
        """By what one picture is drawn again: of several seeds or variations, its own."""
        variations = self._recipe.get("variations")
        if not variations and not self._recipe.get("seeds"):
            return {**self._recipe, "seed": str(done.seed)}
        shared = {name: value for name, value in self._recipe.items() if name not in ("seeds", "n")}
        seed = done.seed if done.seeds is UNSET else done.seeds[index]
        own = {"variations": [variations[index % len(variations)]]} if variations else {}
        return {**shared, **own, "seed": str(seed)}


def input_bytes(image: str, place: str) -> bytes:
    """An input picture, which may be a data URI."""
    try:
        return binascii.a2b_base64(image.partition(",")[2] if image.startswith("data:") else image)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{place}: it is not base64") from None
