"""What a toy picture model is: its components' classes and configs, its schedule, its tokenizers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]

STATIC = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": False}
DYNAMIC = {
    "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "time_shift_type": "exponential",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One component: the library and class that the reference has for it, and its config."""

    library: str
    name: str
    config: Config


@dataclass(frozen=True)
class Toy:
    """A whole model. Its tokenizers are stored, as training one does not give the same twice."""

    pipeline: str
    parts: Mapping[str, Part]
    scheduler: Config
    tokenizers: Mapping[str, str]
    index: Config = field(default_factory=dict)
    processor: Config | None = None  # of pictures that the text encoder sees
    modular: bool = False  # saved by a modular pipeline
