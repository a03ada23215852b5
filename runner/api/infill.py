"""/infill: llama-server's route for text in the middle of a file, which editors ask for while somebody types."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from runner.api.lease import DeferredJson, leased, sse
from runner.errors import DiptychError
from runner.gateway.app import Gateway
from runner.gateway.default_model import read_named_body
from runner.gateway.proxy import keep_alive_seconds
from runner.gateway.responses import Stream
from runner.http.middleware import request_context
from runner.http.operation import SSE, operation
from runner.protocol.duration import Duration
from runner.protocol.events import TextEvent
from runner.protocol.text import (
    LEFT_OUT,
    Failed,
    Infill,
    InfillFile,
    Limit,
    Options,
    Penalty,
    Share,
    TextDone,
    TextRequest,
    parse_body,
)
from runner.sources import ModelMode

# Settings of llama-server that are no part of what is written.
WITHOUT_EFFECT = ("samplers", "t_max_prompt_ms", "t_max_predict_ms", "n_indent", "n_probs")
MOST_FILES = 1024


class InfillRequest(Struct, frozen=True, kw_only=True):
    """`prompt` begins the middle. What does not fit into the context is left out: other files, and what is farthest away."""

    model: Annotated[str, Meta(min_length=1)]
    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[InfillFile], Meta(max_length=MOST_FILES)] | None = None
    prompt: str | None = None
    stream: bool | None = None
    n_predict: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.8
    top_k: Limit = 40
    top_p: Share = 0.95
    min_p: Share = 0.05
    repeat_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    seed: int | None = None
    stop: list[str] | None = None
    keep_alive: Duration | None = None
    cache_prompt: bool | None = None  # it always is
    samplers: Any = None
    t_max_prompt_ms: float | None = None
    t_max_predict_ms: float | None = None
    n_indent: int | None = None
    n_probs: int | None = None
    response_fields: list[str] | None = None


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "presence_penalty")


class Timings(Struct, frozen=True):
    prompt_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float
    cache_n: int


class Filled(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A piece, or all of it with what is known at the end."""

    content: str
    stop: bool
    model: str | UnsetType = UNSET
    stop_type: Literal["eos", "word", "limit"] | UnsetType = UNSET
    stopping_word: str | UnsetType = UNSET
    tokens_predicted: int | UnsetType = UNSET
    tokens_evaluated: int | UnsetType = UNSET
    tokens_cached: int | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


def routes(gateway: Gateway) -> list[BaseRoute]:
    return [Route("/infill", InfillApi(gateway).infill, methods=["POST"])]


class InfillApi:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @operation(
        "Write what is missing between two texts (llama-server's)",
        body=InfillRequest,
        answer=Filled,
        pieces=Filled,
        stream=SSE,
        asks=True,
    )
    async def infill(self, request: Request) -> Any:
        body = parse_body(InfillRequest, await read_named_body(request, self._gateway))
        answer = Filling(self._gateway, body, request_context(request.scope).id)
        return (
            Stream(answer.stream(), f"{SSE}; charset=utf-8", _last)
            if body.stream
            else DeferredJson(answer.whole)
        )


class Filling:
    """The answer to one request."""

    def __init__(self, gateway: Gateway, request: InfillRequest, id: str) -> None:
        self._gateway = gateway
        self._request = request
        self._id = id
        self._keep_alive = keep_alive_seconds(request.keep_alive)

    def _engine_request(self) -> TextRequest:
        request = self._request
        fields = {name: getattr(request, name) for name in SAMPLING}
        return TextRequest(
            prompt=request.input_prefix,
            infill=Infill(request.input_suffix, request.prompt or "", request.input_extra or []),
            options=Options(
                num_predict=request.n_predict,
                frequency_penalty=request.frequency_penalty,
                seed=request.seed,
                stop=request.stop or [],
                **fields,
            ),
            truncate=True,
        )

    async def _events(self) -> AsyncGenerator[TextEvent, None]:
        name = self._request.model
        async with (
            leased(self._gateway, name, ModelMode.TEXT, self._keep_alive, self._id) as lease,
            aclosing(lease.server.completion(self._engine_request(), id=self._id)) as events,
        ):
            async for event in events:
                yield event

    async def stream(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._events()) as events:
            async for event in events:
                if isinstance(event, TextDone):
                    yield sse(self._done(event, event.content or ""))
                elif event.content:
                    yield sse(Filled(content=event.content, stop=False))

    async def whole(self) -> dict[str, Any]:
        text = ""
        async with aclosing(self._events()) as events:
            async for event in events:
                text += event.content or ""
                if isinstance(event, TextDone):
                    done = event
        fields: dict[str, Any] = msgspec.to_builtins(self._done(done, text))
        chosen = self._request.response_fields
        return {name: value for name, value in fields.items() if not chosen or _is_chosen(name, chosen)}

    def _done(self, done: TextDone, content: str) -> Filled:
        notes = list(done.warnings or [])
        notes += [
            f"{name} was ignored: it has no effect here"
            for name in WITHOUT_EFFECT
            if getattr(self._request, name)
        ]
        stopped: Literal["word", "eos"] = "word" if done.stop_string else "eos"
        return Filled(
            content=content,
            stop=True,
            model=self._request.model,
            stop_type="limit" if done.stop_reason == "length" else stopped,
            stopping_word=done.stop_string or "",
            tokens_predicted=done.eval_count,
            tokens_evaluated=done.prompt_eval_count,
            tokens_cached=done.cached,
            truncated=any(LEFT_OUT in note for note in notes),
            timings=Timings(
                done.prompt_eval_count - done.cached,
                done.prompt_eval_duration / 1e6,
                done.eval_count,
                done.eval_duration / 1e6,
                done.cached,
            ),
            warnings=notes or UNSET,
        )


def _is_chosen(name: str, chosen: list[str]) -> bool:
    """Paths within an object choose all of it; what is amiss is always told."""
    return name == "warnings" or any(path.split("/")[0] == name for path in chosen)


def _last(error: DiptychError) -> bytes:
    return sse(Failed(error.message))
