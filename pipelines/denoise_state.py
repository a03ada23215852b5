"""What a walk carries along: its task, what the steps of it share, what a step comes to, and where the time goes."""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from pipelines.base import ImageRequest, Plan, Step
from pipelines.sampling import Schedule


@dataclass(frozen=True)
class Task:
    """One request and its plan. `rows` and `columns` count the transformer's tokens."""

    request: ImageRequest
    plan: Plan
    schedule: Schedule
    rows: int
    columns: int
    guided_steps: int  # the first so many compare the prompt with the negative one, in a batch of two

    @property
    def times(self) -> list[float]:
        """Of each step, from 1 (noise) to 0 (picture)."""
        return [float(time) for time in self.schedule.timesteps / np.float32(1000)]


@dataclass
class Given:
    """What the transformer is given beside the latents: at every step, and at each in turn."""

    conditions: Any
    modulation: Any


@dataclass
class Course:
    """What the steps of a task share. `compared` is for the guided steps, a batch of two, `alone` for the others."""

    compared: Given | None
    alone: Given | None
    noise: np.ndarray  # of all pictures, [picture, row, column, channel]
    start: mx.array | None
    dtype: mx.Dtype

    @property
    def given(self) -> list[Any]:
        """All that is computed before the first step."""
        shared = [(given.conditions, given.modulation) for given in (self.compared, self.alone) if given]
        return [self.start, *shared]


class Moved(NamedTuple):
    """What a step comes to, not computed yet: the latents, and the picture that they promise where one is shown."""

    latents: mx.array
    promised: mx.array | None

    def step(self, index: int, total: int) -> Step:
        """Told when it is done."""
        mx.eval(self)
        return Step(index, total, None if self.promised is None else np.array(self.promised))


class Times:
    """Where the seconds of a request go; each lap ends where the next begins."""

    def __init__(self) -> None:
        self.encoding = self.drawing = self.decoding = 0.0
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        took, self._last = now - self._last, now
        return took
