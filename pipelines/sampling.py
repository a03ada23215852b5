"""Flow matching: the schedule of noise levels, and an Euler step between two of them.

The schedule is computed in NumPy, in float32 and in the order of operations of the reference
(FlowMatchEulerDiscreteScheduler), so timesteps agree to the last bit or two. Independent of networks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mlx.core as mx

Floats = NDArray[np.float32]

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
# Options that no supported checkpoint uses; refused rather than ignored.
UNSUPPORTED = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
    "use_flow_sigmas",
)


class ScheduleError(ValueError):
    """A scheduler config, a number of steps or a strength without a valid schedule."""


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one picture: `sigmas` ends with 0, so it has one more element than there are steps."""

    sigmas: Floats
    timesteps: Floats

    def __len__(self) -> int:
        return len(self.timesteps)

    def after(self, strength: float) -> "Schedule":
        """The part of an image-to-image run: everything at strength 1, less below."""
        steps = len(self)
        if not 0 <= strength <= 1:
            raise ScheduleError(f"strength is {strength}; it must be from 0 to 1")
        skipped = int(max(steps - min(steps * strength, steps), 0))
        if skipped == steps:
            raise ScheduleError(f"strength {strength} leaves none of {steps} steps to run; it must be higher")
        return Schedule(self.sigmas[skipped:], self.timesteps[skipped:])


@dataclass(frozen=True)
class FlowMatch:
    """scheduler_config.json, with the reference's defaults."""

    num_train_timesteps: int = 1000
    shift: float = 1.0
    use_dynamic_shifting: bool = False
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    shift_terminal: float | None = None
    time_shift_type: str = "exponential"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        name = config.get("_class_name", SCHEDULER)
        if name != SCHEDULER:
            raise ScheduleError(f"the scheduler is a {name!r}; {SCHEDULER} is supported")
        for option in UNSUPPORTED:
            if config.get(option):
                raise ScheduleError(f"the scheduler's config sets {option}, which is not supported")
        names = {field.name for field in fields(cls)}
        values = {key: value for key, value in config.items() if key in names and value is not None}
        for key, value in values.items():
            _check(key, value)
        flow = cls(**values)
        if flow.max_image_seq_len <= flow.base_image_seq_len:
            raise ScheduleError(
                f"the scheduler's max_image_seq_len ({flow.max_image_seq_len}) "
                f"must be greater than its base_image_seq_len ({flow.base_image_seq_len})"
            )
        return flow

    def linear_mu(self, tokens: int) -> float:
        """The dynamic shift of FLUX.1 and Z-Image for a picture of so many tokens."""
        slope = (self.max_shift - self.base_shift) / (self.max_image_seq_len - self.base_image_seq_len)
        return tokens * slope + (self.base_shift - slope * self.base_image_seq_len)

    def schedule(self, steps: int, mu: float) -> Schedule:
        """`mu` applies if the config has dynamic shifting."""
        if steps < 1:
            raise ScheduleError(f"steps is {steps}; it must be at least 1")
        sigmas: Floats = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
        if self.use_dynamic_shifting:
            # Both types map odds(s) to factor * odds(s), computed as in the reference.
            factor: Any = math.exp(mu) if self.time_shift_type == "exponential" else mu
            sigmas = factor / (factor + (1 / sigmas - 1))
        else:
            sigmas = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        if self.shift_terminal:
            rest = 1 - sigmas
            if not rest[-1]:
                raise ScheduleError(f"a shift_terminal of {self.shift_terminal} needs more than {steps} step")
            sigmas = 1 - rest / (rest[-1] / (1 - self.shift_terminal))
        timesteps = sigmas * np.float32(self.num_train_timesteps)
        return Schedule(np.append(sigmas, np.float32(0)), timesteps)


def _check(key: str, value: object) -> None:
    """One value of a scheduler's config."""
    if key == "use_dynamic_shifting":
        if not isinstance(value, bool):
            raise ScheduleError(f"the scheduler's {key} is {value!r}; it must be true or false")
    elif key == "time_shift_type":
        if value not in ("exponential", "linear"):
            raise ScheduleError(f"the scheduler's {key} is {value!r}; it must be 'exponential' or 'linear'")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ScheduleError(f"the scheduler's {key} is {value!r}; it must be a number")
    elif key in ("shift", "num_train_timesteps") and value <= 0:
        raise ScheduleError(f"the scheduler's {key} is {value!r}; it must be above 0")
    elif key == "shift_terminal" and not 0 <= value < 1:
        raise ScheduleError(f"the scheduler's {key} is {value!r}; it must be from 0 to below 1")


def flux2_mu(tokens: int, steps: int) -> float:
    """FLUX.2's shift: interpolated by the number of steps between lines fitted at 10 and at 200 steps."""
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    slope = (at_200 - at_10) / 190.0
    return slope * steps + (at_200 - 200.0 * slope)


def euler_step(sample: "mx.array", velocity: "mx.array", sigma: float, next_sigma: float) -> "mx.array":
    """From noise level `sigma` to `next_sigma`, computed in float32, returned in the velocity's precision."""
    import mlx.core as mx

    moved = sample.astype(mx.float32) + (next_sigma - sigma) * velocity.astype(mx.float32)
    return moved.astype(velocity.dtype)


def add_noise(clean: "mx.array", noise: "mx.array", sigma: float) -> "mx.array":
    """A clean latent at noise level `sigma`: the start of an image-to-image run."""
    return sigma * noise + (1.0 - sigma) * clean


def predict_clean(sample: "mx.array", velocity: "mx.array", sigma: float) -> "mx.array":
    """The clean latent if the velocity stayed the same from `sigma` on, for previews."""
    return euler_step(sample, velocity, sigma, 0.0)
