"""What the three trainings share: how long to train, how fast to learn, what to remember."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True)
class Budget:
    """Train for so many steps, or for so many minutes."""

    steps: int | None = None
    minutes: float | None = None

    def walk(self, curve: "Curve") -> Iterator[tuple[int, float]]:
        """Each step with how far the training has come, 0 to 1."""
        start, step = time.monotonic(), 0
        while (done := self._done(step, start)) < 1:
            yield step, done
            step += 1
        torch.cuda.synchronize() if torch.cuda.is_available() else None
        curve.seconds, curve.steps = time.monotonic() - start, step

    def _done(self, step: int, start: float) -> float:
        if self.steps is not None:
            return step / self.steps
        if self.minutes is None:
            raise ValueError("a budget needs steps or minutes")
        return (time.monotonic() - start) / (60 * self.minutes)


@dataclass
class Curve:
    """The losses of a training, a few hundred points of them."""

    name: str
    every: int = 20
    points: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    notes: dict[str, float] = field(default_factory=dict)

    def add(self, step: int, loss: torch.Tensor) -> None:
        if step % self.every == 0:
            self.points.append((step, float(loss)))
            if step % (self.every * 25) == 0:
                print(f"{self.name} {step}: {self.points[-1][1]:.4f}", flush=True)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        values = {"steps": self.steps, "seconds": round(self.seconds, 1), **self.notes}
        points = [[step, round(loss, 5)] for step, loss in self.points]
        (folder / f"{self.name}.json").write_text(json.dumps({**values, "points": points}) + "\n")


def rate(done: float, step: int, top: float, warm: int = 200, hold: float = 0.4) -> float:
    """A short warm-up, a plateau, then half a cosine down to a hundredth."""
    down = max(0.0, (done - hold) / (1 - hold))
    return top * min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * down)))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


class Average:
    """The weights averaged over the last few hundred steps: what is kept."""

    def __init__(self, model: torch.nn.Module, decay: float = 0.998) -> None:
        self.decay = decay
        self.names = [name for name, _ in model.named_parameters()]
        self.live = [value.detach() for value in model.parameters()]
        self.mean = [value.clone() for value in self.live]

    def update(self, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)

    def exchange(self) -> None:
        """Swap the averaged weights with those in training."""
        for live, mean in zip(self.live, self.mean, strict=True):
            held = live.clone()
            live.copy_(mean)
            mean.copy_(held)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half() -> torch.autocast:
    """bfloat16 where that is fast."""
    return torch.autocast(device().type, torch.bfloat16, enabled=torch.cuda.is_available())
