"""Sampling options shared by OpenAI's chat and completions, translated to the engine's."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from runner.api.openai.schemas import CompletionDetails, PromptDetails, Usage
from runner.api.openai.structured import Structured
from runner.errors import BadRequest
from runner.http import rules
from runner.protocol.duration import Duration
from runner.protocol.speculate import Speculate, read_speculate
from runner.protocol.text import MAX_SEED, Options, Priority, TextDone

MOST_CHOICES = 128
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Length = Annotated[int, Meta(ge=-1, le=2**31 - 1, extra_json_schema={"not": {"const": 0}})]  # -1: no limit


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


STREAM_RULE = rules.either(
    {"properties": {"stream_options": {"type": "null"}}}, rules.has("stream", {"const": True})
)


class Sampling(Structured, frozen=True, kw_only=True):
    """Fields of a request for text. top_k, min_p, repeat_penalty, speculate and keep_alive are Diptych's own; priority and
    ignore_eos are vLLM's."""

    model: Annotated[str, Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Length | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Meta(ge=-100, le=100)]],
            Meta(extra_json_schema={"propertyNames": {"pattern": "^[0-9]{1,10}$"}}),
        ]
        | None
    ) = None
    seed: int | None = None
    stop: str | list[str] | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    speculate: Speculate = None
    keep_alive: Duration | None = None
    priority: Priority | None = None

    @property
    def usage_streamed(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


# By the same name on both sides.
SAME = (
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "stop",
    "top_k",
    "min_p",
    "ignore_eos",
    "priority",
    "speculate",
)


def options(request: Sampling, length: int | None, index: int) -> Options:
    """The engine's options for the choice with this index."""
    fields = {name: value for name in SAME if (value := getattr(request, name)) is not None}
    penalty = request.repetition_penalty if request.repeat_penalty is None else request.repeat_penalty
    if penalty is not None:
        fields["repeat_penalty"] = penalty
    seed = request.seed
    if seed is not None:
        seed = seed + index - 2**64 if seed <= MAX_SEED < seed + index else seed + index
    # OpenAI's default is to sample, the native contract's is greedy.
    temperature = 1.0 if request.temperature is None else request.temperature
    return Options(num_predict=length, temperature=temperature, seed=seed, **fields)


def check_length(length: int | None, name: str) -> None:
    if length == 0:
        raise BadRequest(f"{name}: 0 is not allowed; 1 or more are, or -1 for no limit")


def check_stream_options(request: Sampling) -> None:
    if request.stream_options is not None and not request.stream:
        raise BadRequest("stream_options: it is only allowed if stream is true")


def check_speculate(request: Sampling) -> None:
    read_speculate(request.speculate, "speculate")


def usage(done: Sequence[TextDone], thoughts: int = 0) -> Usage:
    """The tokens of all choices, from their last events. They share one prompt, which counts once."""
    written = sum(event.eval_count for event in done)
    read = done[0].prompt_eval_count
    accepted = sum(event.accepted for event in done)
    details = CompletionDetails(thoughts, accepted, sum(event.drafted for event in done) - accepted)
    return Usage(read, written, read + written, PromptDetails(done[0].cached), details)
