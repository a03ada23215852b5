"""Response types of the gateway's own routes."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from runner.gateway.backend import ReplicaState
from runner.gateway.lease import Phase
from runner.sources import ModelMode


class Health(Struct, frozen=True):
    status: Literal["ok"] = "ok"


class Loaded(Struct, frozen=True):
    """A model that is loaded or being loaded."""

    name: str
    mode: ModelMode
    state: Phase
    progress: float
    memory: int
    context: int | None
    active: int
    queue: int
    idle_for: float | None
    keep_alive: float
    until: str | None
    pid: int | None
    replicas: list[ReplicaState] | UnsetType = UNSET


class AllLoaded(Struct, frozen=True):
    models: list[Loaded]
    budget: int
    memory: int
    queue: int


class Adapter(Struct, frozen=True):
    """A LoRA on this machine; `model` is the family that its tensors' names belong to."""

    name: str
    source: Literal["folder", "hub"]
    bytes: int
    model: str | None


class Adapters(Struct, frozen=True):
    loras: list[Adapter]


class Ready(Struct, frozen=True):
    model: str
    status: Literal["loaded"] = "loaded"


class Stopped(Struct, frozen=True):
    status: Literal["not loaded", "stopping", "stopped"]


class Cancelled(Struct, frozen=True):
    cancelled: bool


class Loading(Struct, frozen=True):
    """An event before those of the model, if the request has `progress`."""

    progress: float
    status: Literal["loading"] = "loading"


class Tokens(Struct, frozen=True):
    tokens: list[int]


class Content(Struct, frozen=True):
    content: str


class Vector(Struct, frozen=True):
    """The embedding of one text."""

    embedding: list[float]
    prompt_eval_count: int


class Vectors(Struct, frozen=True):
    """The embeddings of a list of texts."""

    embeddings: list[list[float]]
    prompt_eval_count: int
