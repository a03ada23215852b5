"""Ollama's responses as types, for the OpenAPI document."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from runner.api.logprobs import TokenLogprob


class Version(Struct, frozen=True):
    version: str
    diptych: str


class Details(Struct, frozen=True):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tag(Struct, frozen=True):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(Struct, frozen=True):
    models: list[Tag]


class Loaded(Struct, frozen=True, kw_only=True):
    """A loaded model; the fields that come from its files are missing if the files are gone."""

    name: str
    model: str
    modified_at: str | UnsetType = UNSET
    size: int
    digest: str | UnsetType = UNSET
    details: Details | UnsetType = UNSET
    size_vram: int
    context_length: int
    expires_at: str


class AllLoaded(Struct, frozen=True):
    models: list[Loaded]


class Shown(Struct, frozen=True):
    modelfile: str
    parameters: str
    system: str
    license: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    supported_parameters: list[str] | UnsetType = UNSET  # ours, of picture models
    max_references: int | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class Line(Struct, frozen=True, kw_only=True):
    """The fields shared by all lines; counts, durations and warnings are in the last one. Durations are in nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    drafted_count: int | UnsetType = UNSET
    accepted_count: int | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class Generated(Line, frozen=True, kw_only=True):
    """A piece of text, or the progress of a picture and the picture."""

    response: str
    thinking: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET
    image: str | UnsetType = UNSET
    completed: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    width: int | UnsetType = UNSET
    height: int | UnsetType = UNSET


class CalledFunction(Struct, frozen=True):
    index: int
    name: str
    arguments: Any


class Call(Struct, frozen=True):
    id: str
    index: int
    function: CalledFunction


class Message(Struct, frozen=True):
    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[Call] | UnsetType = UNSET


class Chatted(Line, frozen=True, kw_only=True):
    message: Message


class Embedded(Struct, frozen=True):
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int
    warnings: list[str] | UnsetType = UNSET


class Embedding(Struct, frozen=True):
    embedding: list[float]


class Arriving(Struct, frozen=True):
    """The progress of a download: its status and the bytes that have arrived."""

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET
