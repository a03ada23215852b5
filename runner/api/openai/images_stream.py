"""/v1/images: the engine's events as a stream of pictures, or as a single response."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from msgspec import UNSET, Raw

from runner.api.images import Pictures
from runner.api.lease import leased, sse
from runner.api.openai.images import ImagesCall
from runner.api.openai.schemas import Picture, PictureEvent, PicturesUsage, PictureTokens
from runner.api.openai.schemas import Pictures as Drawn
from runner.errors import RunnerFailed
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.protocol.events import ImageEvent
from runner.protocol.image import ImageChunk, ImageDone, ImageStarted, ImageStep
from runner.sources import ModelMode

PATCH = 16  # pixels on each side of what the models treat as one token


class DrawingAnswer:
    def __init__(self, gateway: Gateway, drawing: ImagesCall, id: str, kept: Pictures, base: str) -> None:
        self._gateway = gateway
        self._drawing = drawing
        self._id = id
        self._kept = kept
        self._base = base
        self._keep_alive = keep_alive_seconds(drawing.body.keep_alive)

    async def _events(self) -> AsyncGenerator[ImageEvent, None]:
        model = self._drawing.body.model
        request = self._drawing.engine_request()
        async with (
            leased(self._gateway, model, ModelMode.IMAGE, self._keep_alive, self._id) as lease,
            aclosing(lease.server.completion(request, id=self._id)) as events,
        ):
            async for event in events:
                yield event

    async def whole(self) -> Drawn:
        images: list[Raw] = []
        done: ImageDone | None = None
        async with aclosing(self._events()) as events:
            async for event in events:
                images += image_of(event)
                done = event if isinstance(event, ImageDone) else done
        if done is None:
            raise RunnerFailed("the runner sent text instead of a picture")
        return Drawn(
            created=int(time.time()),
            data=[self._picture(image) for image in images],
            output_format=self._drawing.format,
            quality=self._drawing.quality or "medium",
            size=f"{done.width}x{done.height}",
            usage=usage(done, len(images), detailed=True),
            seed=done.seed,
            seeds=done.seeds,
            warnings=done.warnings or [],
        )

    def _picture(self, image: Raw) -> Picture:
        if self._drawing.body.response_format == "url":
            return Picture(url=f"{self._base}{self._kept.keep(image, self._drawing.format)}")
        return Picture(b64_json=image)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Partial pictures as they arrive. Finished ones are held until the last event, which has their size and seed."""
        count = self._drawing.engine_request().count
        images: list[Raw] = []
        previews, each = 0, 1
        async with aclosing(self._events()) as events:
            async for event in events:
                if isinstance(event, ImageStarted):
                    yield b": drawing\n\n"  # a comment, so that the response begins; clients ignore it
                elif isinstance(event, ImageStep) and event.preview:
                    each = max(1, min(self._drawing.body.partial_images or 0, event.total // count - 1))
                    yield self._partial(event.preview, previews % each)
                    previews += 1
                images += image_of(event)
                if isinstance(event, ImageDone):
                    for image, seed in zip(images, event.seeds or [event.seed] * len(images), strict=True):
                        yield self._completed(image, event, seed)

    def _partial(self, image: Raw, index: int) -> bytes:
        size = self._drawing.body.size or "auto"
        return self._event("partial_image", image, size, partial_image_index=index)

    def _completed(self, image: Raw, done: ImageDone, seed: int) -> bytes:
        size = f"{done.width}x{done.height}"
        return self._event("completed", image, size, usage=usage(done, 1), seed=seed)

    def _event(
        self, what: Literal["partial_image", "completed"], image: Raw, size: str, **more: Any
    ) -> bytes:
        event = PictureEvent(
            type=f"{self._drawing.kind}.{what}",  # type: ignore[arg-type]  # all four there are
            b64_json=image,
            created_at=int(time.time()),
            size=size,
            quality=self._drawing.quality or "auto",
            output_format=self._drawing.format,
            **more,
        )
        return sse(event, event.type)


def image_of(event: ImageEvent) -> list[Raw]:
    """The finished picture that an event carries, if any."""
    return [event.image] if isinstance(event, ImageChunk | ImageDone) and event.image else []


def usage(done: ImageDone, pictures: int, detailed: bool = False) -> PicturesUsage:
    """A picture's tokens are the patches that the model works on. The prompt is not counted."""
    drawn = pictures * (done.width // PATCH) * (done.height // PATCH)
    details = PictureTokens(drawn) if detailed else UNSET
    return PicturesUsage(0, PictureTokens(0), drawn, drawn, details)
