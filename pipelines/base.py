"""What travels between the runner and a pipeline: the request, and the events on the way to its pictures.

No MLX here, so that the runner's HTTP side can use it; pipelines themselves are loaded on the GPU thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]  # [height, width, 3], RGB
Size: TypeAlias = tuple[int, int]  # width, height


class PipelineError(ValueError):
    """A request that this model cannot fulfil; the message names the field and what is allowed."""


@dataclass(frozen=True)
class ImageRequest:
    """A picture to draw. None means: as the model's files, or the input pictures, suggest."""

    prompt: str
    seed: int  # never 0: whoever asks draws one when the client does not say
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    count: int = 1  # pictures of this one request; their noise comes from one generator, one after another
    images: tuple[Pixels, ...] = ()  # to edit, or to start from
    sizes: tuple[Size, ...] = ()  # which they had before they were reduced; none: as they are
    strength: float | None = (
        None  # 0 to 1: how far to go from the first picture; None: edit where the model can
    )
    previews: int = 0  # how many on the way, of each picture
    # Of one family each, under the reference's names: Z-Image's limit on a guided velocity's length and the time from
    # which it is not guided, and how strongly FLUX.1 is kept from a negative prompt beside its own guidance.
    cfg_normalization: float | None = None
    cfg_truncation: float | None = None
    true_cfg_scale: float | None = None

    @property
    def image_sizes(self) -> tuple[Size, ...]:
        """By which pictures are judged, and by which a size is chosen where none was asked for."""
        return self.sizes or tuple((image.shape[1], image.shape[0]) for image in self.images)


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


@dataclass(frozen=True)
class Step:
    """`index` of `total` steps are done, all pictures' together. The first, 0, comes before the prompt is encoded."""

    index: int
    total: int
    preview: Pixels | None = None


@dataclass(frozen=True)
class Picture:
    pixels: Pixels
    index: int = 0


@dataclass(frozen=True)
class Report:
    """The last event: what was done, and how long each part took, in seconds."""

    plan: Plan
    encode_seconds: float
    denoise_seconds: float
    decode_seconds: float
    warnings: tuple[str, ...] = field(default=())
    peak_bytes: int = 0  # the most memory that was held on the way; 0: as the device says


Event: TypeAlias = Step | Picture | Report


class DeviceMemory(Protocol):
    """What an engine holds on its device, in bytes."""

    relief: str  # what to try where a picture does not fit, to end a sentence with

    def held(self) -> int:
        """Now, spare buffers included. From any thread."""

    def peak(self) -> int:
        """The most since `begin`."""

    def begin(self) -> None:
        """A picture begins: its peak is counted from here."""

    def clear(self) -> None:
        """Give spare buffers back."""

    def close(self) -> None:
        """Give back what the thread owns, which ends after it."""


class Pipeline(Protocol):
    """One loaded model. Everything but `plan` runs on the thread that loaded it."""

    memory: DeviceMemory

    @property
    def context(self) -> int:
        """The longest prompt, in tokens; what is longer is cut, and the report warns."""

    def plan(self, request: ImageRequest) -> Plan:
        """Check a request against this model; PipelineError says what is wrong with it."""

    def working_bytes(self, request: ImageRequest) -> int | None:
        """The most that drawing it takes on top of what is held now, where exceeding it would end the process; None where
        the device itself says that memory is short."""

    def generate(self, request: ImageRequest) -> Iterator[Event]:
        """Draw. Each yield is a place to stop: closing the generator leaves nothing behind."""
