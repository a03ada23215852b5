"""The interface between the runner and a pipeline: the request, and the events on the way to its pictures.

No MLX here, so that the runner's HTTP side can use it; pipelines themselves are loaded on the GPU thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.files import LocalModel
from pipelines import Capabilities
from pipelines.parameters import ImageParameters, Previews

Pixels: TypeAlias = NDArray[np.uint8]  # [height, width, 3], RGB
Mask: TypeAlias = NDArray[np.bool_]  # [height, width]; what is drawn anew is true
Size: TypeAlias = tuple[int, int]  # width, height


class PipelineError(ValueError):
    """This model cannot draw what is requested; the message names the field and what is allowed."""


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter on this machine, and how much of it is added. `hash`: the beginning of its file's SHA-256."""

    name: str
    path: Path
    scale: float = 1.0
    hash: str = ""


@dataclass(frozen=True)
class ControlNetChoice:
    """A ControlNet on this machine, how much of it is added, and in which part of the steps. `hash`: of its weights."""

    name: str
    model: LocalModel
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: int | None = None
    hash: str = ""

    def scale_at(self, step: int, steps: int) -> float:
        """0: it is left out."""
        return self.scale if step / steps >= self.start and (step + 1) / steps <= self.end else 0.0


class ImageRequest(ImageParameters, frozen=True):
    """Pictures to draw."""

    seed: int  # one is drawn before where the client gives none
    images: tuple[Pixels, ...] = ()  # to edit, or to start from
    mask: Mask | None = None  # of the first picture
    previews: Previews = 0  # how many on the way, of each picture
    adapters: tuple[AdapterChoice, ...] = ()  # those that `loras` names
    controlnets: tuple[ControlNetChoice, ...] = ()  # those that `controls` names
    control_images: tuple[Pixels, ...] = ()  # one for each

    @property
    def image_sizes(self) -> tuple[Size, ...]:
        return tuple((image.shape[1], image.shape[0]) for image in self.images)

    @property
    def control_sizes(self) -> tuple[Size, ...]:
        return tuple((image.shape[1], image.shape[0]) for image in self.control_images)


@dataclass(frozen=True)
class Plan:
    """A request with every choice made, before any work: a value for each None in it."""

    width: int
    height: int
    num_inference_steps: int  # of the whole schedule
    denoise_steps: int  # of these, the ones that are run for each picture: fewer below strength 1
    guidance: float | None  # None: the model has none, or it is off
    warnings: tuple[str, ...] = ()
    strength: float | None = None  # None: there is no picture to start from
    # The sizes to which input pictures are reduced first; empty: they are used as they are.
    reduced: tuple[Size, ...] = ()
    controls: tuple[Size, ...] = ()  # the same of the pictures that ControlNets follow
    # Of the finished pictures, where that is not what is drawn: with a mask they have their input picture's, and without one
    # they are the middle of what is drawn.
    pasted: Size | None = None

    @property
    def size(self) -> Size:
        """Of the finished pictures."""
        return self.pasted or (self.width, self.height)


@dataclass(frozen=True)
class Step:
    """Progress: `index` of `total` steps, those of all pictures. The first event, 0, comes before the prompt is encoded."""

    index: int
    total: int
    preview: Pixels | None = None


@dataclass(frozen=True)
class Picture:
    pixels: Pixels
    index: int = 0


@dataclass(frozen=True)
class Report:
    """The last event: what was done, and the seconds that each part took."""

    plan: Plan
    encode_seconds: float
    denoise_seconds: float
    decode_seconds: float
    warnings: tuple[str, ...] = field(default=())
    peak_bytes: int = 0  # the most memory that was held; 0: ask the device
    skipped_steps: int | None = None  # by a step cache, of all pictures


Event: TypeAlias = Step | Picture | Report


class DeviceMemory(Protocol):
    """The memory that an engine holds on its device, in bytes."""

    relief: str  # advice for a picture that does not fit, as the end of a sentence

    def held(self) -> int:
        """Now, including spare buffers. Callable from any thread."""

    def peak(self) -> int:
        """The most since `begin`."""

    def begin(self) -> None:
        """Count the peak from here."""

    def clear(self) -> None:
        """Free spare buffers."""

    def close(self) -> None:
        """Free what belongs to the calling thread, before it ends."""


class Pipeline(Protocol):
    """A loaded model. Everything but `plan` runs on the thread that loaded it."""

    memory: DeviceMemory

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def context(self) -> int:
        """The longest prompt in tokens; longer ones are cut, and the report warns."""

    def plan(self, request: ImageRequest) -> Plan:
        """The request with every choice made; a PipelineError says what is wrong with it."""

    def working_bytes(self, request: ImageRequest, plan: Plan) -> int | None:
        """The most that drawing takes in addition to what is held now, where exceeding it would end the process; None where
        the device itself reports that memory is short."""

    def use_adapters(self, adapters: Sequence[AdapterChoice]) -> tuple[str, ...]:
        """Put these adapters beside the weights, in place of those before; returns warnings. `generate` does it too; called
        before, it raises the PipelineError that says what is wrong with one."""

    def use_controlnets(self, choices: Sequence[ControlNetChoice]) -> None:
        """Check these ControlNets, and forget those before; a PipelineError says what is wrong with one. `generate` does it
        too."""

    def generate(self, request: ImageRequest, plan: Plan | None = None) -> Iterator[Event]:
        """Draw, by the plan of this request where it has been made already. Each yield is a place to stop: closing the
        generator leaves nothing behind."""
