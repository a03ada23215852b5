"""The warm-up of a loaded picture model: everything that a picture of its own size needs is compiled by drawing one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx

from pipelines.base import Event, ImageRequest, Plan
from pipelines.settings import Progress, Settings, no_progress

EVENTS = 3  # of a picture, beside those of its steps


class WarmUp(ABC):
    settings: Settings

    @abstractmethod
    def generate(self, request: ImageRequest, plan: Plan | None = None) -> Iterator[Event]: ...

    def warmup_request(self) -> ImageRequest:
        """A picture of the model's own size in as few steps as it can be drawn in."""
        return ImageRequest("", seed=1, steps=1)

    def warmup_lengths(self) -> Sequence[int]:
        """Prompt lengths in tokens, where kernels are compiled for each."""
        return ()

    def warmup_length(self, length: int) -> Any:
        """All work that depends on a prompt's length, for a picture of the model's own size, unevaluated."""
        return None

    def warm(self, progress: Progress = no_progress) -> None:
        """Compile everything that a picture of the model's own size needs, by drawing one in few steps. A staged model
        is left alone."""
        if self.settings.staged:
            return
        request = self.warmup_request()
        events = (request.steps or 0) + EVENTS + len(self.warmup_lengths())
        for index, _ in enumerate(self._warmup(request), 1):
            progress(index / events)
        mx.clear_cache()

    def _warmup(self, request: ImageRequest) -> Iterator[None]:
        for _ in self.generate(request):
            yield
        for length in self.warmup_lengths():
            mx.eval(self.warmup_length(length))
            yield
