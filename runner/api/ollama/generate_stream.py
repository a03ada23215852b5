"""Ollama's /api/generate and /api/chat: events as lines of a stream, or as a single response."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from runner.api.lease import DOES, check_request
from runner.api.logprobs import without_id
from runner.api.ollama.context_shift import ContextShift
from runner.api.ollama.models import ModelCatalog
from runner.api.ollama.requests import Generate, Request
from runner.errors import BadRequest, RunnerFailed
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.proxy import keep_alive_seconds
from runner.protocol.events import CompletionRequest, ImageEvent, TextEvent
from runner.protocol.image import ImageChunk, ImageDone, ImageStep
from runner.protocol.text import TextChunk, TextDone, TextRequest, encode
from runner.sources import ModelMode

Line = dict[str, Any]
COUNTS = ("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")


class Answer:
    """`lines` is the stream; `whole` combines it into a single object."""

    def __init__(self, gateway: Gateway, catalog: ModelCatalog, request: Request, id: str) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._request = request
        self._id = id
        self._keep_alive = keep_alive_seconds(request.fields.keep_alive)
        self._began = perf_counter_ns()
        self._loaded = self._began
        self._calls = 0

    async def stream(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.lines()) as lines:
            async for line in lines:
                yield encode(line) + b"\n"

    async def whole(self) -> Line:
        whole: Line = {}
        async with aclosing(self.lines()) as lines:
            async for line in lines:
                _add(whole, line)
        # Only a stream has denoising steps.
        whole.pop("completed", None)
        whole.pop("total", None)
        return whole

    async def lines(self) -> AsyncGenerator[Line, None]:
        name, model = await self._catalog.resolve(self._request.fields.model)
        if self._request.empty:
            yield await self._load(name)
            return
        mode = model.mode
        self._request.apply_defaults(await self._catalog.defaults(model))
        request = self._engine_request(mode)
        if isinstance(request, TextRequest):
            check_request(model, request)
        async with await self._gateway.pool.acquire(name, self._keep_alive, id=self._id) as lease:
            self._loaded = perf_counter_ns()
            if isinstance(request, TextRequest) and request.think and not await self._catalog.thinks(model):
                self._request.warnings.append("think was ignored: this model does not think")
            self._request.options.warn_of_context(lease.server.context_length)
            async with aclosing(self._events(lease, request)) as lines:
                async for line in lines:
                    yield line

    def _engine_request(self, mode: ModelMode) -> CompletionRequest:
        if mode is ModelMode.TEXT:
            return self._request.text()
        if isinstance(self._request, Generate):
            return self._request.picture()
        raise BadRequest(f"model: {self._request.fields.model} {DOES[mode]}; use /api/generate")

    async def _load(self, name: str) -> Line:
        """A request without a prompt loads the model, or unloads it if keep_alive is 0."""
        if self._keep_alive == 0:
            if await self._gateway.pool.stop(name) is None:
                await self._catalog.find(name)  # which raises an error if there is no such model
            return self._line() | self._message() | {"done": True, "done_reason": "unload"}
        (await self._gateway.pool.acquire(name, self._keep_alive, id=self._id)).release()
        return self._line() | self._message() | {"done": True, "done_reason": "load"}

    async def _events(self, lease: Lease, request: CompletionRequest) -> AsyncGenerator[Line, None]:
        if not isinstance(request, TextRequest):
            async with aclosing(lease.server.completion(request, id=self._id)) as steps:
                async for step in steps:
                    yield self._image(step)
            return
        text = ContextShift(lease, request, self._id, self._request.shifts)
        async with aclosing(text.events()) as events:
            async for event in events:
                line = self._text(event)
                if line is not None:
                    yield line
                if isinstance(event, TextDone):
                    yield (
                        self._line() | self._message() | self._done(event) | self._context(event, text.tokens)
                    )

    def _context(self, event: TextDone, tokens: list[int]) -> Line:
        """What a later request may continue; a raw prompt has none."""
        request = self._request
        if not isinstance(request, Generate) or request.fields.raw or not event.prompt_tokens:
            return {}
        return {"context": tokens}

    # -- one line each

    def _line(self) -> Line:
        return {"model": self._request.fields.model, "created_at": now(), "done": False}

    def _message(self, content: str = "", thinking: str = "", calls: list[Line] | None = None) -> Line:
        thoughts = {"thinking": thinking} if thinking else {}
        if self._request.kind == "generate":
            return {"response": content} | thoughts
        tool_calls = {"tool_calls": calls} if calls else {}
        return {"message": {"role": "assistant", "content": content} | thoughts | tool_calls}

    def _text(self, event: TextEvent) -> Line | None:
        content, thinking = event.content or "", event.thinking or ""
        calls = [self._call(call) for call in event.tool_calls or []]
        tokens = event.logprobs if isinstance(event, TextChunk) else None
        logprobs = [without_id(token) for token in tokens or []]
        if not (content or thinking or calls or logprobs):
            return None
        line = self._line() | self._message(content, thinking, calls)
        return line | {"logprobs": logprobs} if logprobs else line

    def _call(self, call: Line) -> Line:
        self._calls += 1
        index = self._calls - 1
        function = {"index": index, "name": call["name"], "arguments": call["arguments"]}
        # In Ollama only the function has an index; LiteLLM looks for it here, and otherwise merges two calls into one.
        return {"id": f"call_{secrets.token_hex(4)}", "index": index, "function": function}

    def _image(self, event: ImageEvent) -> Line:
        line = self._line() | {"response": ""}
        if isinstance(event, ImageDone):
            picture = {"image": event.image, "seed": event.seed, "width": event.width, "height": event.height}
            return line | picture | self._done(event)
        if isinstance(event, ImageChunk):
            raise RunnerFailed("the runner made several pictures where one was requested")
        return line | {"completed": event.step if isinstance(event, ImageStep) else 0, "total": event.total}

    def _done(self, event: TextDone | ImageDone) -> Line:
        options, warnings = self._request.options, [*self._request.warnings]
        warnings += [*options.warnings, *(event.warnings or [])]
        counts = {name: getattr(event, name) for name in COUNTS if hasattr(event, name)}
        if isinstance(event, TextDone) and event.drafted:
            counts |= {"drafted_count": event.drafted, "accepted_count": event.accepted}
        return {
            "done": True,
            "done_reason": event.stop_reason if isinstance(event, TextDone) else "stop",
            "total_duration": perf_counter_ns() - self._began,
            "load_duration": self._loaded - self._began,
            **counts,
            **({"warnings": warnings} if warnings else {}),
        }


def _add(whole: Line, line: Line) -> None:
    """Append a line's text and calls to those of earlier lines; its other fields replace theirs."""
    for name, value in line.items():
        if name in ("response", "thinking", "content", "logprobs", "tool_calls") and name in whole:
            whole[name] += value
        elif name == "message" and name in whole:
            _add(whole[name], value)
        else:
            whole[name] = value


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
