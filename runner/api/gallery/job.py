"""One drawing that goes on without its client, and its state as clients see it."""

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from pipelines.parameters import values
from runner.api.gallery.results import Result
from runner.errors import DiptychError, RunnerFailed
from runner.gallery.gallery import Gallery
from runner.gallery.picture import Picture
from runner.gateway.app import Gateway
from runner.protocol.image import ImageChunk, ImageCompletionRequest, ImageDone, ImageStarted, ImageStep

log = logging.getLogger("diptych.gallery")

State = Literal["queued", "waiting", "loading", "working", "done", "failed", "stopped"]
OVER = ("done", "failed", "stopped")


class JobState(Struct, frozen=True):
    """`progress` is of loading the model; `step` of `total` denoising steps; `preview` is a PNG in base64. `error` and its
    `status` say why it failed; `pictures` are what it made."""

    id: str
    model: str
    recipe: dict[str, Any]
    state: State
    since: float
    progress: float = 0.0
    step: int = 0
    total: int = 0
    inputs: int = 0
    error: str = ""
    status: int = 0
    preview: Raw | UnsetType = UNSET
    pictures: list[Picture] = msgspec.field(default_factory=list)


class Job:
    def __init__(
        self, id: str, owner: str, model: str, request: ImageCompletionRequest, warnings: list[str]
    ) -> None:
        self.owner = owner
        self.request = request
        self.warnings = warnings
        self.task: asyncio.Task[None] | None = None
        self.state = JobState(
            id, model, {"model": model, **recipe(request)}, "queued", time.time(), inputs=len(request.images)
        )

    @property
    def over(self) -> bool:
        return self.state.state in OVER

    @property
    def bytes(self) -> int:
        """What it holds in memory while it waits."""
        return sum(map(len, self.request.images)) + len(self.request.mask or "")

    def tell(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    async def draw(self, gateway: Gateway, gallery: Gallery, changed: Any) -> None:
        """To the end, whatever that is. `changed` is called after each change of the state."""

        def tell(**changes: Any) -> None:
            self.tell(**changes)
            changed(self)

        try:
            tell(state="waiting")
            pictures = await self._pictures(gateway, gallery, tell)
            tell(state="done", preview=UNSET, pictures=pictures)
        except asyncio.CancelledError:
            tell(state="stopped", preview=UNSET)
            raise
        except DiptychError as error:
            tell(state="failed", preview=UNSET, error=error.message, status=error.status)
        except Exception as error:  # nobody awaits a job: what it did not expect is shown, too
            log.exception("drawing %s failed", self.state.id)
            tell(state="failed", preview=UNSET, error=f"the drawing failed: {error}", status=500)

    async def _pictures(self, gateway: Gateway, gallery: Gallery, tell: Any) -> list[Picture]:
        id, result = self.state.id, Result(self.state.recipe, self.request, self.warnings)

        def loading(progress: float) -> None:
            tell(state="loading", progress=round(progress, 3))

        lease = await gateway.pool.acquire(self.state.model, None, loading, id)
        async with lease, aclosing(lease.server.completion(self.request, id=id)) as events:
            async for event in events:
                match event:
                    case ImageStarted():
                        tell(state="working", total=event.total)
                    case ImageStep():
                        preview = event.preview if event.preview is not UNSET else self.state.preview
                        tell(state="working", step=event.step, total=event.total, preview=preview)
                    case ImageChunk():
                        result.add(event.image)
                    case ImageDone():
                        result.end(event)
        if result.done is None:
            raise RunnerFailed("the runner's answer ended without a picture")
        return await gallery.add(self.owner, *result.pictures())


def recipe(request: ImageCompletionRequest) -> dict[str, Any]:
    """The parameters that are set, as JSON; the seed in digits."""
    recipe: dict[str, Any] = msgspec.to_builtins(values(request))
    if request.seed is not None:
        recipe["seed"] = str(request.seed)
    return recipe
