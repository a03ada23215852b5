"""The options that OpenAI's chat and completions share, as native ones."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from runner.api.openai.schemas import CompletionDetails, PromptDetails, Usage
from runner.errors import BadRequest, RunnerFailed
from runner.http import rules
from runner.protocol.duration import Duration
from runner.protocol.text import MAX_SEED

MOST_CHOICES = 128
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Length = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


STREAM_RULE = rules.either(
    {"properties": {"stream_options": {"type": "null"}}}, rules.has("stream", {"const": True})
)


class Sampling(Struct, frozen=True, kw_only=True):
    """Fields of a request for text. top_k, min_p, repeat_penalty and keep_alive are Diptych's own."""

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
    keep_alive: Duration | None = None

    @property
    def usage_streamed(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


# By the same name on both sides.
SAME = ("top_p", "frequency_penalty", "presence_penalty", "logit_bias", "stop", "top_k", "min_p")


def options(asked: Sampling, length: int | None, index: int) -> dict[str, Any]:
    """The native options of the choice with this index."""
    # OpenAI's default is to draw, the native contract's is greedy.
    found: dict[str, Any] = {"temperature": 1.0 if asked.temperature is None else asked.temperature}
    found |= {name: value for name in SAME if (value := getattr(asked, name)) is not None}
    repeat = asked.repeat_penalty if asked.repeat_penalty is not None else asked.repetition_penalty
    if repeat is not None:
        found["repeat_penalty"] = repeat
    if length is not None:
        found["num_predict"] = length
    if asked.seed is not None:
        seed = asked.seed + index
        found["seed"] = seed - 2**64 if asked.seed <= MAX_SEED < seed else seed
    return found


def check_stream_options(asked: Sampling) -> None:
    if asked.stream_options is not None and not asked.stream:
        raise BadRequest("stream_options: they are for streams; set stream to true")


def usage(done: dict[str, Any], more: list[dict[str, Any]], thoughts: int = 0) -> Usage:
    """Tokens of the last events of all choices; they share one prompt, which counts once."""
    written = sum(_count(event, "eval_count") for event in [done, *more])
    read = _count(done, "prompt_eval_count")
    cached = int(done.get("cached", 0))
    return Usage(read, written, read + written, PromptDetails(cached), CompletionDetails(thoughts))


def _count(done: dict[str, Any], name: str) -> int:
    count = done.get(name)
    if not isinstance(count, int):
        raise RunnerFailed(f"the runner's last event has no {name}")
    return count
